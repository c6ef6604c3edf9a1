"""Single records on the page: how many are exposed, what they have in common, which they are."""

import json
from collections.abc import Iterator

import pandas as pd

from audits.membership.measurements import NEVER
from audits.membership.single_records import (
    NAMED,
    NAMED_SUBJECTS,
    POOL,
    SEPARATION,
    SHARE_FOUND,
    SINGLE_RECORDS,
    TAIL,
    TRAITS,
)
from common.prose import prose
from studies.compare.memorization import record_values
from studies.compare.single_records import BY_BOTH, BY_STUDENT, BY_TEACHER, teacher_of
from studies.plan.cells import Cell
from studies.report import tables
from studies.report.over_replicates import over_replicates, wide_figures
from studies.report.parts import Part, Text
from studies.report.study_data import StudyData

SHOWN_PER_MODEL = 20
_SAYS = prose(__file__)
_COLUMNS = (SEPARATION, *(f"{SEPARATION}_{one}" for one in ("lower", "upper", NAMED)))


def judged_records(data: StudyData) -> Iterator[Part]:
    """Yields what shadow worlds say of single records; nothing where no run was judged by them."""
    rows = data.results[data.results["name"] == SINGLE_RECORDS]
    if not len(rows):
        return
    yield Text(_SAYS["text"])
    yield _shares(data, rows)
    yield _by_teacher_and_student(data, rows)
    yield _traits(data, rows)
    yield _tasks(data, rows)
    yield Text(_SAYS["named"])
    yield _named(data)


def _shares(data: StudyData, rows: pd.DataFrame) -> tables.PageTable:
    whole = rows[rows["task"].isna() & rows["run_b"].isna()]
    names = {(POOL, one): one for one in (SHARE_FOUND, NAMED, NAMED_SUBJECTS, TAIL)}
    names[NEVER, TAIL] = "never"
    places = zip(whole["population"], whole["metric"], strict=True)
    measures = pd.Series([names.get(place) for place in places], index=whole.index, dtype=object)
    measured = whole.assign(measure=measures).dropna(subset="measure")
    figures = over_replicates(data, measured, ["measure"])
    columns = [
        *tables.words(data.notes, label="Model"),
        tables.estimate(
            "Share found 1 time in 10, at 1 false accusation per 1,000", f"{SHARE_FOUND}_"
        ),
        tables.number("Records named", f"{NAMED}_value"),
        *(
            [tables.number("Persons with a named record", f"{NAMED_SUBJECTS}_value")]
            if NAMED_SUBJECTS in set(measured["measure"])
            else []
        ),
        tables.estimate("Most exposed 5%, separation", f"{TAIL}_"),
        tables.estimate("The same of never-seen records", "never_"),
    ]
    shown = wide_figures(figures, ["label"])
    kept = ["label", "run", "measure", *tables.ESTIMATE]
    return tables.table(
        "single_records", _SAYS["shares"], columns, shown, measured[kept], apart=False
    )


def _by_teacher_and_student(data: StudyData, rows: pd.DataFrame) -> tables.PageTable:
    measures = {
        BY_BOTH: "Of teacher and student",
        BY_STUDENT: "Of the student alone",
        BY_TEACHER: "Of the teacher alone",
    }
    own = rows[rows["metric"].isin(list(measures))].assign(measure=lambda own: own["metric"])
    figures = over_replicates(data, own, ["measure"])
    columns = [
        *tables.words(data.notes, label="Student"),
        *(
            tables.number(f"Named {title[0].lower()}{title[1:]}", f"{name}_value")
            for name, title in measures.items()
        ),
        tables.number("Records judged", "n_members"),
    ]
    kept = ["label", "run", "run_b", "measure", "value", "n_members"]
    shown = wide_figures(figures, ["label"])
    return tables.table(
        "single_records_inherited", _SAYS["inherited"], columns, shown, own[kept], apart=False
    )


def _traits(data: StudyData, rows: pd.DataFrame) -> tables.PageTable:
    own = rows[rows["metric"].isin(TRAITS)]
    own = own.assign(
        records=own["params"].map(lambda text: json.loads(text)["records"]), measure=own["metric"]
    )
    figures = over_replicates(data, own, ["records", "measure"])
    titles = dict(zip(TRAITS, ("Tokens", "Nats per token, not met", "Copies"), strict=True))
    columns = [
        *tables.words(data.notes, label="Model"),
        *tables.words(records="Records"),
        *(tables.number(title, f"{name}_value", ".3g") for name, title in titles.items()),
        tables.number("Records", "n_members"),
    ]
    shown = wide_figures(figures, ["label", "records"])
    kept = ["label", "run", "records", "measure", "value", "n_members"]
    return tables.table(
        "single_records_traits", _SAYS["traits"], columns, shown, own[kept], apart=False
    )


def _tasks(data: StudyData, rows: pd.DataFrame) -> tables.PageTable:
    own = rows[rows["task"].notna() & rows["population"].eq(POOL)]
    own = own.assign(measure=own["metric"])
    figures = over_replicates(data, own, ["task", "measure"])
    shown = wide_figures(figures, ["label", "task"])
    for name in (NAMED, TAIL):
        if f"{name}_value" not in shown:
            shown = shown.assign(
                **{f"{name}_{end}": None for end in ("value", "lower", "upper", "known")}
            )
    columns = [
        *tables.words(data.notes, label="Model"),
        *tables.words(task="Task"),
        tables.number("Records named", f"{NAMED}_value"),
        tables.estimate("Most exposed 5%, separation", f"{TAIL}_"),
    ]
    kept = ["label", "run", "task", "measure", *tables.ESTIMATE]
    shown = shown.assign(task=tables.spoken(shown["task"]))
    return tables.table("single_records_tasks", _SAYS["tasks"], columns, shown, own[kept])


def _named(data: StudyData) -> tables.PageTable:
    """Returns the named records by id, the most exposed first, of one model of each kind."""
    frame = named_records(data)
    columns = [
        *tables.words(data.notes, label="Model"),
        *tables.words(record="Record", task="Task"),
        tables.estimate("Separation", value=SEPARATION),
        tables.number("Its teacher’s", "teacher", ".2f"),
    ]
    shown = frame.groupby("label", sort=False).head(SHOWN_PER_MODEL) if len(frame) else frame
    shown = shown.assign(task=tables.spoken(shown["task"])) if len(shown) else shown
    return tables.table("exposed_records", _SAYS["caption"], columns, shown, frame, apart=False)


def named_records(data: StudyData) -> pd.DataFrame:
    """Returns the named records of one teacher and one student of each kind.

    Returns:
        `label`, `run`, `record`, `task`, `separation`, `lower`, `upper`, `teacher` (its teacher's
        separation; NaN of a teacher), the most exposed of a model first. Ids, no text.
    """
    figures = _figures(data)
    models: dict[str, Cell] = {}
    for cell in sorted(
        data.cells, key=lambda one: (one.role != "teacher", one.replicate, one.seed)
    ):
        if cell.role in ("teacher", "student") and cell.alias in figures:
            models.setdefault(data.kinds[cell.alias], cell)
    columns = ["label", "run", "record", "task", SEPARATION, "lower", "upper", "teacher"]
    found = [pd.DataFrame(columns=columns)]
    for cell in models.values():
        own = figures[cell.alias]
        teacher = teacher_of(cell, data.cells)
        other = figures.get(teacher.alias) if teacher is not None else None
        named = own[own[NAMED] == 1.0].sort_values(SEPARATION, ascending=False)
        found.append(
            named.assign(
                label=data.labels[cell.alias],
                run=cell.alias,
                record=named.index,
                task=named.index.map(data.task_of),
                teacher=float("nan") if other is None else other[SEPARATION].reindex(named.index),
            )[columns]
        )
    return pd.concat([one for one in found if len(one)] or found, ignore_index=True)


def _figures(data: StudyData) -> dict[str, pd.DataFrame]:
    """Returns each run's figures by record of the pool: separation, lower, upper, named."""
    table = data.record_table
    columns: dict[str, dict[str, pd.Series]] = {}
    for name in _COLUMNS:
        for runs in record_values(table, name).values() if len(table) else ():
            for run, own in runs.items():
                sides = [own[side] for side in ("private", "held_out") if side in own]
                short = name.removeprefix(f"{SEPARATION}_")
                if sides:
                    columns.setdefault(run, {})[short] = pd.concat(sides)
    return {run: pd.DataFrame(own) for run, own in columns.items()}
