"""Swap estimates by task, on as many records of each and on responses of the same lengths.

Long answers give more tokens to tell a member by, and tasks differ in length: without matching a
difference between tasks may be one between lengths (corrections, item 13).
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from callbacks.statistics.delong import placements
from studies.claims.figures import StudyFigures
from studies.claims.panel import Entry
from studies.comparisons import AttackScores
from studies.plan import Cell

__all__ = ["record_lengths", "record_tasks", "task_entries"]

_CLASSES = 4
_SUBSAMPLES = 20
_FEWEST = 10
Scores = Mapping[str, Mapping[tuple[str, str], AttackScores]]


def record_tasks(scores: pd.DataFrame) -> pd.Series:
    """Returns the task of each record, from the table `scores`."""
    return scores.dropna(subset="task").drop_duplicates("record").set_index("record")["task"]


def record_lengths(memorization: pd.DataFrame) -> pd.Series:
    """Returns the tokens of each record's response: the most that any measure has judged."""
    return memorization.groupby("record")["n_tokens"].max().dropna()


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
    sides = [scores.get(cell.alias, {}).get(figures.attack) for cell in pair]
    if sides[0] is None or sides[1] is None:
        return f"{pair[0].alias}: no scores of the attack {figures.attack[0]}"
    ours, theirs = sides[0], sides[1]
    frames = [
        pd.concat({"ours": a, "theirs": b, "task": tasks, "length": lengths}, axis=1, join="inner")
        for a, b in ((ours.members, theirs.members), (ours.nonmembers, theirs.nonmembers))
    ]
    names = sorted(set(frames[0]["task"]) & set(frames[1]["task"])) if len(frames[0]) else []
    if len(names) < 2:
        return f"{pair[0].alias}: lengths of responses by task are not in the tables"
    cuts = np.quantile(pd.concat(frames)["length"], np.linspace(0, 1, _CLASSES + 1)[1:-1])
    rng = np.random.default_rng(pair[0].replicate)
    drawn = [_matched(frame, names, cuts, rng) for frame in frames]
    fewest = min(len(rows[0]) for side in drawn for rows in side.values())
    if fewest < _FEWEST:
        return f"{pair[0].alias}: only {fewest} records a side and task have comparable lengths"
    return {name: _swap(frames, [side[name] for side in drawn]) for name in names}


def _matched(
    frame: pd.DataFrame, names: list[str], cuts: NDArray[np.float64], rng: np.random.Generator
) -> dict[str, NDArray[np.int64]]:
    """Returns subsamples [S, n] of each task's rows: as many of each class of lengths."""
    classes = np.searchsorted(cuts, frame["length"].to_numpy(), side="left")
    of_task = {name: (frame["task"] == name).to_numpy() for name in names}
    parts: dict[str, list[NDArray[np.int64]]] = {name: [] for name in names}
    for number in range(_CLASSES):
        pools = {name: np.flatnonzero(of_task[name] & (classes == number)) for name in names}
        count = min(len(pool) for pool in pools.values())
        for name, pool in pools.items():
            rows = [rng.choice(pool, count, replace=False) for _ in range(_SUBSAMPLES)]
            parts[name].append(np.array(rows, dtype=np.int64).reshape(_SUBSAMPLES, count))
    return {name: np.concatenate(own, axis=1) for name, own in parts.items()}


def _swap(frames: list[pd.DataFrame], rows: list[NDArray[np.int64]]) -> float:
    """Returns the mean swap estimate over subsamples."""
    aurocs = {}
    for run in ("ours", "theirs"):
        x, y = (frame[run].to_numpy(dtype=np.float64) for frame in frames)
        pairs = zip(*rows, strict=True)
        aurocs[run] = np.mean(
            [placements(x[inside], y[outside]).mean() for inside, outside in pairs]
        )
    return float((aurocs["ours"] + 1.0 - aurocs["theirs"]) / 2.0)
