"""Records memorized by both teacher and student, by one of them, as excess over counterfactuals.

After Borkar et al. 2026, with two changes: a record counts as memorized only by what a model
produces beyond its counterfactual, on average over three seeds or more, and the same share of
records that no run trains on is subtracted.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from audits.statistics.means import UtilityEstimate, gap, share_interval
from studies.compare.comparisons import Row, bounds, teaching
from studies.compare.memorization import NEVER, PRIVATE, Accuracies
from studies.plan.cells import Cell

FEWEST_SEEDS = 3
# Share of a record's tokens; fixed before looking at any result.
MEMORIZED_EXCESS = 0.3
SETS = ("inherited", "teacher_only", "student_only")
Pair = tuple[Cell, Cell]


def decomposition_rows(accuracies: Accuracies) -> Iterator[Row]:
    """Yields the share of each set on private and never-seen records, and their difference.

    The difference's metric ends in `_net`. Where fewer seeds than three have met a record as
    private, no record is decided: the rows are there, with a count of 0 and no value. Repeats of
    one split decide all of its records, replicates only those that fell to one side in three.
    """
    for students in _techniques(accuracies):
        cell, other = students[0]
        with_counterfactual = [
            pair
            for pair in accuracies.pairs()
            if pair[0].role == "teacher" and pair[0].family == cell.family
        ]
        own = teaching((pair[0] for pair in with_counterfactual), cell)
        teachers = [pair for pair in with_counterfactual if pair[0] in own]
        if not teachers:
            continue
        seeds = {"student_seeds": _seeds(students), "teacher_seeds": _seeds(teachers)}
        params = {**accuracies.params, **seeds, "excess": MEMORIZED_EXCESS}
        decided = {
            population: record_sets(accuracies, teachers, students, population)
            for population in (PRIVATE, NEVER)
        }
        runs = [run for pair in (*teachers, *students) for run in pair]
        clusters = {
            population: accuracies.cluster_ids(runs, sets.index)
            for population, sets in decided.items()
        }
        for name in SETS:
            row = accuracies.row(cell, "decomposition", name, params=params, run_b=other.alias)
            yield from set_rows(row, name, decided, clusters)


def record_sets(
    accuracies: Accuracies, teachers: Sequence[Pair], students: Sequence[Pair], population: str
) -> pd.Series:
    """Returns the set of each decided record of a population: a name of `SETS` or "neither".

    A record is decided by teachers and students of at least three seeds in whose split it belongs
    to the population.

    Args:
        accuracies: Token accuracies.
        teachers: Teachers with their counterfactual teachers.
        students: Students of one technique with their counterfactual students.
        population: private or never.
    """
    taught, learnt = (_mean_excess(accuracies, pairs, population) for pairs in (teachers, students))
    common = taught.index.intersection(learnt.index)
    by_teacher, by_student = (
        (one[common] > MEMORIZED_EXCESS).to_numpy(dtype=bool) for one in (taught, learnt)
    )
    names = np.select(
        [by_teacher & by_student, by_teacher, by_student], list(SETS), default="neither"
    )
    return pd.Series(names, index=common, dtype=object)


def _techniques(accuracies: Accuracies) -> list[list[Pair]]:
    """Returns the pairs of student and counterfactual by family, size and technique."""
    groups: dict[tuple[str, str, str | None], list[Pair]] = {}
    for cell, other in accuracies.pairs():
        if (cell.role, other.role) == ("student", "counterfactual"):
            groups.setdefault((cell.family, cell.size, cell.technique), []).append((cell, other))
    return list(groups.values())


def _seeds(pairs: Sequence[Pair]) -> int:
    """Returns how many seeds pairs have: the teachers of one ensemble share theirs."""
    return len({cell.seed for cell, _ in pairs})


def _mean_excess(accuracies: Accuracies, pairs: Sequence[Pair], population: str) -> pd.Series:
    """Returns the mean excess of the records that pairs of enough seeds have in the population."""
    own = [accuracies.excess(cell, other, population) for cell, other in pairs]
    excess = pd.concat(own, keys=[cell.seed for cell, _ in pairs], names=["seed", "record"])
    by_record = excess.groupby(["seed", "record"]).mean().groupby("record")
    return by_record.mean()[by_record.size() >= FEWEST_SEEDS]


def set_rows(
    row: Row,
    name: str,
    decided: Mapping[str, pd.Series],
    clusters: Mapping[str, NDArray[np.int64] | None],
) -> Iterator[Row]:
    """Yields the share of one set in two populations, and the difference of the shares.

    Args:
        row: Columns that all rows share.
        name: The set.
        decided: Set of each record, by population, the private one first.
        clusters: Number of each record's cluster, by population.
    """
    found: dict[str, UtilityEstimate] = {}
    inside, outside = decided
    for population, count in ((inside, "n_members"), (outside, "n_nonmembers")):
        sets = decided[population]
        columns: Row = {"population": population, count: len(sets)}
        if len(sets):
            ids = clusters[population]
            share = share_interval(
                (sets == name).to_numpy(dtype=np.float64), None if ids is None else ids.tolist()
            )
            found[population] = share
            columns |= bounds(share)
        yield row | columns
    net: Row = {"metric": f"{name}_net"}
    if len(found) == len(decided):
        net |= bounds(gap(found[inside], found[outside]))
    yield row | net | {"n_members": len(decided[inside]), "n_nonmembers": len(decided[outside])}
