"""From scores to rows: every metric of an attack with its interval, over all tasks and per task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from audits.rows import ResultRow, bounds, known, told_tasks
from audits.statistics import (
    Estimate,
    TprEstimate,
    auroc,
    auroc_over_draws,
    balanced_accuracy,
    certified_tpr,
    epsilon_equivalent,
    reliability,
    tpr_at_fpr,
)
from audits.statistics.estimates import Clusters
from audits.statistics.verdict import TAIL_FPR, TAIL_METRIC

DEFAULT_FPRS = (0.1, 0.01)
OF_SUBJECTS = {"unit": "subject"}
"""Parameter of a row about subjects, each scored by the mean of its records."""
# Fewer could leave a side without a cluster in one of the halves that balanced accuracy needs.
_FEWEST_CLUSTERS = 20


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
        draws: [n, K] float64 scores under single random draws that all records share, whose mean is
            the score; None for an attack without such draws.
        diagnostics: Figures by name that tell how far the scores can be trusted.
        subjects: Whom each record is of, None if that is not known; empty where it is of none.
    """

    population: str
    record_ids: Sequence[str]
    tasks: Sequence[str]
    clusters: NDArray[np.int64]
    scores: NDArray[np.float64]
    skipped: int = 0
    draws: NDArray[np.float64] | None = None
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    subjects: Sequence[str | None] = ()

    def of_task(self, task: str) -> "ScoredRecords":
        """Returns the records of one task; what is skipped or diagnosed is so over all tasks."""
        return self.where(np.array([found == task for found in self.tasks], dtype=bool))

    def where(self, keep: NDArray[np.bool_]) -> "ScoredRecords":
        """Returns some records, [n] bool, without what is skipped or diagnosed over all of them."""
        if bool(keep.all()):
            return replace(self, skipped=0, diagnostics={})
        places = np.flatnonzero(keep).tolist()
        return ScoredRecords(
            self.population,
            [self.record_ids[place] for place in places],
            [self.tasks[place] for place in places],
            self.clusters[keep],
            self.scores[keep],
            draws=None if self.draws is None else self.draws[keep],
            subjects=[self.subjects[place] for place in places] if self.subjects else (),
        )

    def by_subject(self) -> "ScoredRecords":
        """Returns a score for each subject, the mean of its records' under every draw.

        A record without a subject stands for itself. Of several tasks a subject has none.
        """
        subjects = self.subjects or [None] * len(self.record_ids)
        names = [
            f"record {record}" if subject is None else f"subject {subject}"
            for record, subject in zip(self.record_ids, subjects, strict=True)
        ]
        kept, first, index = np.unique(names, return_index=True, return_inverse=True)
        share = np.bincount(index)

        def means(scores: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.bincount(index, weights=scores, minlength=share.size) / share

        draws = None if self.draws is None else np.stack([means(own) for own in self.draws.T], 1)
        return replace(
            self,
            record_ids=kept.tolist(),
            tasks=[""] * share.size,
            clusters=self.clusters[first],
            scores=means(self.scores),
            draws=draws,
            subjects=(),
        )


Unit = Callable[[ScoredRecords], ScoredRecords]


def units(
    params: Mapping[str, object], *sides: ScoredRecords
) -> list[tuple[Mapping[str, object], Unit]]:
    """Returns what rows are about, with the parameters that say so: records, and subjects.

    Args:
        params: Parameters of the attack.
        sides: Scores; subjects come second, and only where some record has one.
    """
    found: list[tuple[Mapping[str, object], Unit]] = [(params, lambda side: side)]
    if any(any(side.subjects) for side in sides):
        found.append(({**params, **OF_SUBJECTS}, ScoredRecords.by_subject))
    return found


def diagnostic_rows(
    attack: str,
    params: Mapping[str, object],
    side: str,
    scored: ScoredRecords,
    shifted: bool | None = None,
) -> list[ResultRow]:
    """Returns one row of the results table for every diagnostic of a population's scores.

    Args:
        attack: The attack's id.
        params: Its parameters.
        side: ``n_members`` or ``n_nonmembers``: what the population counts as.
        scored: The population's scores; a diagnostic that is NaN becomes null.
        shifted: Whether the population differs from what it is set against
            (`shift_test.gravest_shift`).
    """
    n = len(scored.scores)
    row = partial(
        ResultRow,
        population=scored.population,
        name=attack,
        params=params,
        n_members=n if side == "n_members" else None,
        n_nonmembers=n if side == "n_nonmembers" else None,
        skipped=scored.skipped,
        shifted=shifted,
    )
    return [row(metric=metric, value=known(value)) for metric, value in scored.diagnostics.items()]


def attack_rows(
    attack: str,
    params: Mapping[str, object],
    members: ScoredRecords,
    nonmembers: ScoredRecords,
    fprs: Sequence[float] = DEFAULT_FPRS,
) -> list[ResultRow]:
    """Returns the result rows of one attack: every metric over all tasks, then per task.

    Where records have subjects, every row has a twin about subjects (`units`).

    Args:
        attack: The attack's id.
        params: Its parameters.
        members: Scores of the members.
        nonmembers: Scores of the non-members.
        fprs: False-positive rates at which the true-positive rate is reported.

    Returns:
        Rows without identity columns; none of a task with fewer than two records on a side.
    """
    rows = []
    for own, unit in units(params, members, nonmembers):
        rows += _metric_rows(attack, own, None, unit(members), unit(nonmembers), fprs)
        for task in told_tasks(members.tasks, nonmembers.tasks):
            inside, outside = (unit(side.of_task(task)) for side in (members, nonmembers))
            if min(len(inside.scores), len(outside.scores)) > 1:
                rows += _metric_rows(attack, own, task, inside, outside, fprs)
    return rows


def _metric_rows(
    attack: str,
    params: Mapping[str, object],
    task: str | None,
    members: ScoredRecords,
    nonmembers: ScoredRecords,
    fprs: Sequence[float],
) -> list[ResultRow]:
    row = partial(
        ResultRow,
        population=members.population,
        task=task,
        name=attack,
        params=params,
        n_members=len(members.scores),
        n_nonmembers=len(nonmembers.scores),
        skipped=members.skipped + nonmembers.skipped,
    )
    rates = [f"{fpr:g}" for fpr in fprs]
    if min(len(members.scores), len(nonmembers.scores)) < 2:
        metrics = ["auroc", *(f"tpr_at_fpr_{rate}" for rate in rates), "balanced_accuracy"]
        return [row(metric=metric) for metric in metrics]
    sides = (members.scores, nonmembers.scores)
    points = [tpr_at_fpr(*sides, fpr, **_clusters(members, nonmembers)) for fpr in fprs]
    accuracy = _accuracy(members, nonmembers)
    judged = row(metric="balanced_accuracy", **bounds(accuracy))
    if accuracy is not None:
        n, m = accuracy.n_members, accuracy.n_nonmembers
        judged = replace(judged, n_members=n, n_nonmembers=m)
    named = zip(rates, points, strict=True)
    rows = [
        row(metric="auroc", **bounds(area(members, nonmembers))),
        *(row(metric=f"tpr_at_fpr_{rate}", **bounds(point)) for rate, point in named),
        judged,
    ]
    if members.draws is not None and nonmembers.draws is not None:
        value = reliability(np.concatenate([members.draws, nonmembers.draws]))
        rows.append(row(metric="reliability", value=known(value)))
    if task is None:
        rows += [
            row(metric=f"epsilon_equivalent_at_fpr_{rate}", value=_equivalent(point))
            for rate, point in zip(rates, points, strict=True)
        ]
        certified = _certified(members, nonmembers)
        rows += [] if certified is None else [row(metric=TAIL_METRIC, **bounds(certified))]
    return rows


def area(members: ScoredRecords, nonmembers: ScoredRecords, level: float = 0.95) -> Estimate:
    """Returns the AUROC; its interval counts the draws too where there are any."""
    clusters = _clusters(members, nonmembers)
    if members.draws is None or nonmembers.draws is None:
        return auroc(members.scores, nonmembers.scores, level, **clusters)
    return auroc_over_draws(members.draws, nonmembers.draws, level, **clusters)


def _clusters(members: ScoredRecords, nonmembers: ScoredRecords) -> Clusters:
    return Clusters(member_clusters=members.clusters, nonmember_clusters=nonmembers.clusters)


def _certified(members: ScoredRecords, nonmembers: ScoredRecords) -> Estimate | None:
    """The certified TPR that verdicts read: lower bound of 97.5%, upper of 95%.

    None for scores over random draws: a draw moves members against non-members by an amount that no
    bound over records counts.
    """
    if members.draws is not None or nonmembers.draws is not None:
        return None
    clusters = _clusters(members, nonmembers)
    return certified_tpr(members.scores, nonmembers.scores, TAIL_FPR, **clusters)


def _accuracy(members: ScoredRecords, nonmembers: ScoredRecords) -> Estimate | None:
    """Balanced accuracy; its counts are those of the half that did not choose the threshold."""
    if min(np.unique(side.clusters).size for side in (members, nonmembers)) < _FEWEST_CLUSTERS:
        return None
    clusters = _clusters(members, nonmembers)
    return balanced_accuracy(members.scores, nonmembers.scores, **clusters)


def _equivalent(point: TprEstimate) -> float | None:
    """Epsilon of a randomised response at an operating point; null where that is not measurable.

    Infinite, and written so, where no non-member is above the threshold or no member below it.
    """
    if np.isnan(point.value):
        return None
    return epsilon_equivalent(point.value, point.realised_fpr)
