"""What a student and its teacher know alike: the comparisons of a study, of one pair of models.

A study's comparisons speak of cells and of private records. Here the models are the cells, and the
given members go by the name private while they are compared.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa

from audits.memorization.metrics import ExactMatch
from common.roles import Role
from studies.compare.comparisons import (
    Attack,
    AttackScores,
    Row,
    attack_scores,
    common_records,
    comparison_rows,
    run_identities,
    scores_of,
)
from studies.compare.decomposition import set_rows
from studies.compare.disagreement import overlap_rows
from studies.compare.extraction import extraction_rows
from studies.compare.memorization import (
    HELD_OUT,
    NEVER,
    PRIVATE,
    Accuracies,
    curve_rows,
    memorization_rows,
    read_accuracies,
)
from studies.compare.primary_attack import primary_attack
from studies.compare.relative_leakage import leakage_columns
from studies.compare.task_rows import task_rows
from studies.plan.cells import Cell

MEMBERS = "external"
SETS = ("both", "teacher_only", "student_only", "neither")
MEMORIZED_BY = "memorized_by"
"""Name of the rows that say who writes a record word for word."""

RELATIVE_LEAKAGE = "relative_leakage"
CONDITIONAL = "conditional"


def inheritance_rows(
    tables: Mapping[str, pa.Table], clusters: Mapping[str, int], never: bool
) -> list[Row]:
    """Returns rows of the results table that compare a student with its teacher.

    Of every attack ``relative_leakage``, the student's (AUROC - 1/2) as a share of the teacher's;
    ``conditional``, the student's token accuracy where the teacher's is above a cut; and
    ``memorized_by``, the shares of records that both, one or none write word for word, of members,
    of others, and their difference (``_net``). With a counterfactual student also
    ``swap_estimate``, ``auroc_difference``, the attack ``inherited``, and what the student writes
    beyond it.

    Args:
        tables: Results, scores and memorization of the runs student, teacher and, where there is
            one, counterfactual.
        clusters: Number of each record's cluster, by population and id (`record_key`).
        never: Whether there are records under never; else non-members stand in for them.
    """
    results = tables["results"]
    scores, memorization = (_compared(tables[name]) for name in ("scores", "memorization"))
    cells = [_cell(Role(name)) for name in _RUNS if name in set(results["run"].to_pylist())]
    by_run = {cell.alias: cell for cell in cells}
    by_attack = attack_scores(scores)

    def clusters_of(cell: Cell) -> Mapping[str, int]:
        return clusters

    rows = [
        *comparison_rows(cells, results, by_attack, clusters_of),
        *_leakage_rows(by_run, results, by_attack, clusters),
        *task_rows(cells, results, scores, by_attack, memorization, clusters_of),
        *extraction_rows(cells, results, memorization, clusters_of),
    ]
    attack = primary_attack(results.select(["name", "params"]).to_pandas())
    for accuracies in read_accuracies(cells, results, memorization, clusters_of=clusters_of):
        rows += memorization_rows(accuracies)
        if not never:
            rows += curve_rows(accuracies, by_run["student"], [HELD_OUT])
        rows += overlap_rows(accuracies, by_attack, attack)
    beside = NEVER if never else HELD_OUT
    exact = read_accuracies(cells, results, memorization, ExactMatch.name, clusters_of)
    for accuracies in exact:
        rows += _set_rows(accuracies, by_run["teacher"], by_run["student"], beside)
    renamed = {PRIVATE: MEMBERS}
    return [
        {**row, "population": renamed.get(str(row["population"]), row["population"])}
        for row in rows
    ]


_RUNS = ("teacher", "student", "counterfactual")


def record_key(population: str, record: str) -> str:
    """Returns what a record is called while runs are compared: ids of two files may be the same.

    >>> record_key("external", "7"), record_key("held_out", "7")
    ('private/7', 'held_out/7')
    """
    return f"{PRIVATE if population == MEMBERS else population}/{record}"


def _compared(table: pa.Table) -> pd.DataFrame:
    """Returns a table with the names of populations and records that comparisons take."""
    frame = table.to_pandas()
    keys = [record_key(*names) for names in zip(frame["population"], frame["record"], strict=True)]
    return frame.assign(population=frame["population"].replace({MEMBERS: PRIVATE}), record=keys)


def _cell(role: Role) -> Cell:
    """Returns a model of the pair as a finished cell of a study of one replicate."""
    return Cell(
        id=role.value,
        alias=role.value,
        stage=role.value,
        role=role,
        technique=None,
        family="",
        size="",
        replicate=0,
        seed=0,
        needs={},
        run_dir="",
        output="",
        arguments=(),
        threads=1,
    )


def _leakage_rows(
    cells: Mapping[str, Cell],
    results: pa.Table,
    scores: Mapping[str, Mapping[Attack, AttackScores]],
    clusters: Mapping[str, int],
) -> Iterator[Row]:
    """Yields the student's leakage as a share of the teacher's, attack by attack."""
    student, teacher = cells["student"], cells["teacher"]
    identity = run_identities(results)[student.alias]
    for attack, runs in scores_of([student, teacher], scores):
        found = leakage_columns(common_records(runs), clusters)
        if found.get("lower") is None:
            # A share of next to nothing, which would be read as a large one.
            found |= {"value": None}
        yield {
            **identity,
            **{"audit": "membership", "population": PRIVATE, "run_b": teacher.alias},
            **{"name": attack[0], "params": attack[1], "metric": RELATIVE_LEAKAGE},
            **found,
        }


def _set_rows(accuracies: Accuracies, teacher: Cell, student: Cell, beside: str) -> Iterator[Row]:
    """Yields the shares of records that both, one or none of the two models write word for word."""
    decided, clusters = {}, {}
    for population in (PRIVATE, beside):
        taught, learnt = (accuracies.of(cell, population) for cell in (teacher, student))
        common = taught.index.intersection(learnt.index)
        by_teacher, by_student = ((one[common] == 1.0).to_numpy() for one in (taught, learnt))
        names = np.select(
            [by_teacher & by_student, by_teacher, by_student], SETS[:3], default=SETS[3]
        )
        decided[population] = pd.Series(names, index=common, dtype=object)
        clusters[population] = accuracies.cluster_ids([student], common)
    for name in SETS:
        row = accuracies.row(student, MEMORIZED_BY, name, run_b=teacher.alias)
        yield from set_rows(row, name, decided, clusters)
