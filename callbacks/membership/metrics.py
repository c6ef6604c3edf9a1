"""From scores to rows: AUROC and TPR at low FPR with intervals, over all tasks and per task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from callbacks.results import Row
from callbacks.statistics import Estimate, auroc, tpr_at_fpr

DEFAULT_FPRS = (0.1, 0.01)


@dataclass(frozen=True)
class ScoredRecords:
    """One attack's scores on one population.

    Attributes:
        population: Name of the population.
        record_ids: The scored records.
        tasks: Their tasks.
        clusters: [n] ids of near-duplicate clusters, the independent units of every interval.
        scores: [n] float64, higher = more likely a member.
        skipped: Records without a scorable token, or on which the attack is undefined.
    """

    population: str
    record_ids: Sequence[str]
    tasks: Sequence[str]
    clusters: NDArray[np.int64]
    scores: NDArray[np.float64]
    skipped: int = 0

    def of_task(self, task: str) -> "ScoredRecords":
        """Returns the records of one task; the skipped ones are counted over all tasks only."""
        keep = np.array([found == task for found in self.tasks], dtype=bool)
        return ScoredRecords(
            self.population,
            [record for record, kept in zip(self.record_ids, keep, strict=True) if kept],
            [task] * int(keep.sum()),
            self.clusters[keep],
            self.scores[keep],
        )


def score_rows(attack: str, params: Mapping[str, object], scored: ScoredRecords) -> list[Row]:
    """Returns one row of the scores table for every record."""
    return [
        {
            "record": record,
            "population": scored.population,
            "task": task,
            "name": attack,
            "params": params,
            "score": float(score),
        }
        for record, task, score in zip(scored.record_ids, scored.tasks, scored.scores, strict=True)
    ]


def attack_rows(
    attack: str,
    params: Mapping[str, object],
    members: ScoredRecords,
    nonmembers: ScoredRecords,
    fprs: Sequence[float] = DEFAULT_FPRS,
) -> list[Row]:
    """Returns the result rows of one attack: every metric over all tasks, then per task.

    Args:
        attack: The attack's id.
        params: Its parameters.
        members: Scores of the members.
        nonmembers: Scores of the non-members.
        fprs: False-positive rates at which the true-positive rate is reported.

    Returns:
        Rows without identity columns. A task with fewer than two records on a side has a count and
        no value.
    """
    rows = _metric_rows(attack, params, None, members, nonmembers, fprs)
    for task in sorted({*members.tasks, *nonmembers.tasks}):
        rows += _metric_rows(
            attack, params, task, members.of_task(task), nonmembers.of_task(task), fprs
        )
    return rows


def _metric_rows(
    attack: str,
    params: Mapping[str, object],
    task: str | None,
    members: ScoredRecords,
    nonmembers: ScoredRecords,
    fprs: Sequence[float],
) -> list[Row]:
    common: Row = {
        "population": members.population,
        "task": task,
        "name": attack,
        "params": params,
        "n_members": len(members.scores),
        "n_nonmembers": len(nonmembers.scores),
        "skipped": members.skipped + nonmembers.skipped,
    }
    metrics = ["auroc", *(f"tpr_at_fpr_{fpr:g}" for fpr in fprs)]
    if min(len(members.scores), len(nonmembers.scores)) < 2:
        return [{**common, "metric": metric} for metric in metrics]
    sides = (members.scores, nonmembers.scores)
    ours, theirs = members.clusters, nonmembers.clusters
    estimates: list[Estimate] = [
        auroc(*sides, member_clusters=ours, nonmember_clusters=theirs),
        *(tpr_at_fpr(*sides, f, member_clusters=ours, nonmember_clusters=theirs) for f in fprs),
    ]
    return [
        {**common, "metric": metric, **_estimate_columns(estimate)}
        for metric, estimate in zip(metrics, estimates, strict=True)
    ]


def _estimate_columns(estimate: Estimate) -> Row:
    """Returns value and interval; what is not measurable is null."""
    return {
        name: None if np.isnan(number) else float(number)
        for name, number in (
            ("value", estimate.value),
            ("lower", estimate.lower),
            ("upper", estimate.upper),
        )
    }
