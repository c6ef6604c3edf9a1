"""Weights that give every task as many records, on responses of the same lengths.

Long answers give more tokens to tell a member by, and tasks differ in length: without matching, a
difference between tasks may be one between lengths. Of each class of lengths every task counts with
as many records as the task that has the fewest of it, each record with equal weight: what drawing
that many at random comes to on average, without the draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FEWEST = 10
"""Records a side and task below which nothing is said about tasks."""
_CLASSES = 4


@dataclass(frozen=True)
class MatchedTasks:
    """Records of one side with their weights.

    Attributes:
        records: Columns task, length (tokens) and weight, by record.
        per_task: Records that every task counts for: the weights of each add up to it.
    """

    records: pd.DataFrame
    per_task: int

    def of(self, task: str) -> pd.DataFrame:
        """Returns the records of a task that count."""
        return self.records[(self.records["task"] == task) & (self.records["weight"] > 0)]


@dataclass(frozen=True)
class MatchedSides:
    """Members and non-members, each matched by itself.

    Attributes:
        names: The tasks that both sides have, two at least.
        members: Private records.
        nonmembers: Held-out records.
    """

    names: tuple[str, ...]
    members: MatchedTasks
    nonmembers: MatchedTasks

    @property
    def fewest(self) -> int:
        """Records of each task on the side that has fewer."""
        return min(self.members.per_task, self.nonmembers.per_task)


def record_tasks(scores: pd.DataFrame) -> pd.Series:
    """Returns the task of each record, from the table `scores`."""
    return scores.dropna(subset="task").drop_duplicates("record").set_index("record")["task"]


def record_lengths(memorization: pd.DataFrame) -> pd.Series:
    """Returns the tokens of each record's response: the most that any measure has judged."""
    return memorization.groupby("record")["n_tokens"].max().dropna()


def length_cuts(lengths: Sequence[pd.Series]) -> NDArray[np.float64]:
    """Returns the quartiles of the lengths of all sides, which part the classes.

    Args:
        lengths: Tokens of each record, one series per side.
    """
    quantiles = np.linspace(0, 1, _CLASSES + 1)[1:-1]
    return np.quantile(np.concatenate([one.to_numpy() for one in lengths]), quantiles)


def match_tasks(
    tasks: pd.Series, lengths: pd.Series, names: Sequence[str], cuts: NDArray[np.float64]
) -> MatchedTasks:
    """Weighs the records of one side so that tasks have equal numbers and lengths.

    Args:
        tasks: Task by record.
        lengths: Tokens of the response by record; records without one do not count.
        names: Tasks to match.
        cuts: What `length_cuts` returned.
    """
    frame = pd.concat({"task": tasks, "length": lengths}, axis=1, join="inner")
    frame = frame[frame["task"].isin(names)]
    classes = pd.Series(np.searchsorted(cuts, frame["length"], side="left"), index=frame.index)
    counts = pd.crosstab(classes, frame["task"]).reindex(columns=list(names), fill_value=0)
    fewest = counts.min(axis=1)
    own = [counts.loc[at, task] for at, task in zip(classes, frame["task"], strict=True)]
    frame = frame.assign(weight=classes.map(fewest).to_numpy() / np.array(own, dtype=np.float64))
    return MatchedTasks(frame, int(fewest.sum()))


def match_sides(
    members: pd.Index, nonmembers: pd.Index, tasks: pd.Series, lengths: pd.Series
) -> MatchedSides | None:
    """Matches the tasks of both sides, in classes of lengths that both share.

    Args:
        members: Private records.
        nonmembers: Held-out records.
        tasks: Task by record.
        lengths: Tokens of the response by record.

    Returns:
        None where fewer than two tasks have records with a length on both sides.
    """
    known = tasks.index.intersection(lengths.index)
    sides = [known.intersection(members), known.intersection(nonmembers)]
    names = sorted(set(tasks[sides[0]]) & set(tasks[sides[1]]))
    if len(names) < 2:
        return None
    cuts = length_cuts([lengths[side] for side in sides])
    ours, theirs = (match_tasks(tasks[side], lengths[side], names, cuts) for side in sides)
    return MatchedSides(tuple(names), ours, theirs)
