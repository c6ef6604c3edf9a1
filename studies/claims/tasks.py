"""Swap estimates by task, on as many records of each and on responses of the same lengths."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from audits.statistics.delong import placements
from studies.claims.figures import StudyFigures
from studies.claims.panel import Entry
from studies.compare.comparisons import AttackScores
from studies.compare.task_matching import FEWEST, MatchedSides, match_sides
from studies.plan.cells import Cell

__all__ = ["task_entries"]

Scores = Mapping[str, Mapping[tuple[str, str], AttackScores]]


def task_entries(
    figures: StudyFigures, scores: Scores, tasks: pd.Series, lengths: pd.Series
) -> Iterator[Entry]:
    """Yields every student's swap estimate by task, or why there is none.

    Args:
        figures: The study.
        scores: What `attack_scores` returned.
        tasks: Task by record.
        lengths: Tokens by record.
    """
    for cell in figures.students:
        pair = figures.pair(cell)
        if isinstance(pair, str):
            yield cell.replicate, "", pair
            continue
        found = _by_task(figures, pair, scores, tasks, lengths)
        if isinstance(found, str):
            yield cell.replicate, "", found
            continue
        for task, value in found.items():
            yield cell.replicate, task, value


def _by_task(
    figures: StudyFigures,
    pair: tuple[Cell, Cell],
    scores: Scores,
    tasks: pd.Series,
    lengths: pd.Series,
) -> dict[str, float] | str:
    runs = [scores.get(cell.alias, {}).get(figures.attack) for cell in pair]
    if runs[0] is None or runs[1] is None:
        return f"{pair[0].alias}: no scores of the attack {figures.attack[0]}"
    ours, theirs = runs[0], runs[1]
    sides = match_sides(
        ours.members.index.intersection(theirs.members.index),
        ours.nonmembers.index.intersection(theirs.nonmembers.index),
        tasks,
        lengths,
    )
    if sides is None:
        return f"{pair[0].alias}: lengths of responses by task are not in the tables"
    if sides.fewest < FEWEST:
        return (
            f"{pair[0].alias}: only {sides.fewest} records a side and task have comparable lengths"
        )
    return {name: _swap((ours, theirs), sides, name) for name in sides.names}


def _swap(runs: tuple[AttackScores, AttackScores], sides: MatchedSides, task: str) -> float:
    members, nonmembers = sides.members.of(task), sides.nonmembers.of(task)
    weights = nonmembers["weight"].to_numpy()
    private, counterfactual = (
        np.average(
            placements(
                run.members[members.index].to_numpy(dtype=np.float64),
                run.nonmembers[nonmembers.index].to_numpy(dtype=np.float64),
                weights,
            ),
            weights=members["weight"],
        )
        for run in runs
    )
    return float((private + 1.0 - counterfactual) / 2.0)
