"""Whose records are exposed: by shadow worlds where there are some, else one run's extremes."""

from collections.abc import Iterator

import pandas as pd

from common.prose import prose
from studies.plan.cells import Cell
from studies.report import tables
from studies.report.parts import Part, Text, section
from studies.report.single_records import judged_records
from studies.report.study_data import StudyData

SHOWN_PER_STUDENT = 5
_SAYS = prose(__file__)


@section("exposed_records", "The records that an attacker finds first")
def exposed_records(data: StudyData) -> Iterator[Part]:
    """Yields what worlds say of single records, or the extremes of one student of each kind."""
    judged = list(judged_records(data))
    yield from judged
    frame = pd.DataFrame() if judged else find_exposed_records(data)
    if len(frame):
        yield Text(_SAYS["text"].format(data.primary_name))
        yield Text(_SAYS["without_worlds"])
        yield _table(data, frame)


def find_exposed_records(data: StudyData) -> pd.DataFrame:
    """Returns the records that a student's score most exceeds its counterfactual's on.

    Without a counterfactual, those of its highest scores. The student is that of the first
    replicate and seed, the scores those of the primary attack.

    Returns:
        `label`, `run`, `record`, `task`, `score`, `excess` (NaN without a counterfactual) and
        `accused`: of 100 held-out records, those that score as high.
    """
    students: dict[tuple[str, str, str | None], Cell] = {}
    for cell in sorted(data.cells, key=lambda one: (one.replicate, one.seed)):
        if cell.role == "student":
            students.setdefault((cell.family, cell.size, cell.technique), cell)
    found = [_of_student(data, cell) for cell in students.values()]
    found = [one for one in found if len(one)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _of_student(data: StudyData, cell: Cell) -> pd.DataFrame:
    scores = data.scores.get(cell.alias, {}).get(data.primary)
    if scores is None:
        return pd.DataFrame()
    pair = data.figures.pair(cell)
    other = None if isinstance(pair, str) else data.scores.get(pair[1].alias, {}).get(data.primary)
    frame = pd.DataFrame({"score": scores.members})
    frame["excess"] = float("nan") if other is None else frame["score"] - other.members
    ranked = frame.sort_values(["excess", "score"], ascending=False).head(SHOWN_PER_STUDENT)
    return ranked.assign(
        label=data.labels[cell.alias],
        run=cell.alias,
        record=ranked.index,
        task=ranked.index.to_series().map(data.task_of),
        accused=[100.0 * float((scores.nonmembers >= own).mean()) for own in ranked["score"]],
    )


def _table(data: StudyData, frame: pd.DataFrame) -> tables.PageTable:
    columns = [
        *tables.words(data.notes, label="Model", record="Record", task="Task"),
        tables.number("Score beyond the counterfactual’s", "excess", ".3f"),
        tables.number("False accusations per 100 before it is found", "accused", ".1f"),
    ]
    named = ["label", "run", "record", "task", "score", "excess", "accused"]
    caption = "Private records that are found first, by id"
    shown = frame.assign(task=tables.spoken(frame["task"]))
    return tables.table("exposed_records", caption, columns, shown, frame[named], apart=False)
