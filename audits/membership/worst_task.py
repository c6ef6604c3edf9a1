"""The task that a model gives most away of: one half of the records names it, one measures it.

The largest of several AUROCs is large by chance too. So the half that names the task has no say in
the figure (sample splitting: Cox 1975, Biometrika 62).
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from audits.membership.metrics import ScoredRecords, area, units
from audits.rows import ResultRow, bounds, told_tasks
from common.keys import key

WORST_TASK = "worst_task_auroc"
"""Metric of the row; its column `task` names the task."""

_FEWEST_CLUSTERS = 10


def worst_task_rows(
    attack: str,
    params: Mapping[str, object],
    members: ScoredRecords,
    nonmembers: ScoredRecords,
) -> list[ResultRow]:
    """Returns the AUROC of the task that is worst in the other half; none where tasks are too few.

    Whole clusters fall to a half, by their name alone. A task counts with ten clusters or more on
    each side in each half, and of fewer than two tasks none is the worst.

    Args:
        attack: The attack's id.
        params: Its parameters.
        members: Scores of the members.
        nonmembers: Scores of the non-members.

    Returns:
        A row with the counts of the half that gives the figure, and its twin of subjects where
        records have them.
    """
    sides = (members, nonmembers)
    naming, measuring = ([side.where(_half(side) == half) for side in sides] for half in (0, 1))
    tasks = [
        task
        for task in told_tasks(members.tasks, nonmembers.tasks)
        if all(_clusters(side, task) >= _FEWEST_CLUSTERS for side in (*naming, *measuring))
    ]
    if len(tasks) < 2:
        return []
    found = []
    for own, unit in units(params, *sides):
        named = [_area(*(unit(side.of_task(task)) for side in naming)) for task in tasks]
        worst = tasks[int(np.argmax(named))]
        inside, outside = (unit(side.of_task(worst)) for side in measuring)
        found.append(
            ResultRow(
                population=members.population,
                task=worst,
                name=attack,
                params=own,
                metric=WORST_TASK,
                n_members=len(inside.scores),
                n_nonmembers=len(outside.scores),
                **bounds(area(inside, outside)),
            )
        )
    return found


def _area(inside: ScoredRecords, outside: ScoredRecords) -> float:
    return area(inside, outside).value


def _half(side: ScoredRecords) -> NDArray[np.int64]:
    """Returns the half of each record's cluster, 0 or 1, [n]."""
    return np.array([key("worst task", int(name)) & 1 for name in side.clusters], dtype=np.int64)


def _clusters(side: ScoredRecords, task: str) -> int:
    return int(np.unique(side.of_task(task).clusters).size)
