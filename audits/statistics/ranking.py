"""AUROC of an attack, paired differences between two models, and the swap estimate."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from audits.statistics.delong import RankStatistics, rank_statistics
from audits.statistics.estimates import (
    Estimate,
    FloatArray,
    as_scores,
    tail_probability,
)
from audits.statistics.recovered_variance import difference_bounds

_SMALLEST_P = 1e-300


@dataclass(frozen=True)
class ComparisonEstimate(Estimate):
    """An estimate that compares two models on the same records.

    Attributes:
        p_value: Two-sided p-value of "the two models have the same AUROC": one minus the level at
            which the interval just reaches equality, so that test and interval never disagree.
    """

    p_value: float


def auroc(
    members: ArrayLike,
    nonmembers: ArrayLike,
    level: float = 0.95,
    *,
    member_clusters: ArrayLike | None = None,
    nonmember_clusters: ArrayLike | None = None,
    member_weights: ArrayLike | None = None,
    nonmember_weights: ArrayLike | None = None,
) -> Estimate:
    """Probability that a member scores above a non-member, ties counted one half; never flipped.

    Interval: DeLong's variance on the logit scale with Student's t; at a sample AUROC of 1 (0) the
    exact bound from disjoint pairs (`delong.logit_interval`). With cluster ids the variance is
    Obuchowski's, clusters, not records, are the independent units, and their sizes decide the
    degrees of freedom.

    Args:
        members: [n] scores, higher = more likely a member.
        nonmembers: [m] scores.
        level: Confidence level.
        member_clusters: [n] integer ids, or None for independent records.
        nonmember_clusters: [m] integer ids; the same id on both sides is the same cluster.
        member_weights: [n] how much each member counts, at least 0, or None for all alike.
        nonmember_weights: [m] the same of the non-members.

    Returns:
        AUROC in [0, 1] with its interval.

    Raises:
        ValueError: Empty scores, NaN, ids that do not match, or a level outside (0, 1).

    Example:
        >>> auroc([2.0, 3.0, 4.0], [1.0, 2.0]).value
        0.9166666666666666
    """
    tail = tail_probability(level)
    x, y = as_scores(members, "members"), as_scores(nonmembers, "nonmembers")
    sides = (member_clusters, nonmember_clusters, member_weights, nonmember_weights)
    ranks = rank_statistics(x[None], y[None], *sides)
    value = float(ranks.aurocs[0])
    _, lower, upper = ranks.term(0, tail)
    return Estimate(value, lower, upper, x.size, y.size)


def paired_difference(
    a_members: ArrayLike,
    a_nonmembers: ArrayLike,
    b_members: ArrayLike,
    b_nonmembers: ArrayLike,
    level: float = 0.95,
    *,
    member_clusters: ArrayLike | None = None,
    nonmember_clusters: ArrayLike | None = None,
    member_weights: ArrayLike | None = None,
    nonmember_weights: ArrayLike | None = None,
) -> ComparisonEstimate:
    """AUROC of model a minus AUROC of model b on the same records.

    Interval: the two logit intervals combined by `recovered_variance.difference_bounds` with the
    correlation from DeLong's covariance. It keeps a width where one or both AUROCs are 0 or 1,
    where DeLong's own interval has none. Conditional on the two models: a
    statement about these weights, not about the techniques that made them.

    Args:
        a_members: [n] scores of the members under model a.
        a_nonmembers: [m] scores of the non-members under model a.
        b_members: [n] scores of the same members, in the same order, under model b.
        b_nonmembers: [m] scores of the same non-members under model b.
        level: Confidence level.
        member_clusters: [n] integer ids, or None for independent records.
        nonmember_clusters: [m] integer ids; the same id on both sides is the same cluster.
        member_weights: [n] how much each member counts, at least 0, or None for all alike.
        nonmember_weights: [m] the same of the non-members.

    Returns:
        Difference in [-1, 1], its interval and the two-sided p-value of no difference.

    Raises:
        ValueError: Records of a and b differ in number, or as for `auroc`.
    """
    tail = tail_probability(level)
    x = _pair(as_scores(a_members, "a_members"), as_scores(b_members, "b_members"))
    y = _pair(as_scores(a_nonmembers, "a_nonmembers"), as_scores(b_nonmembers, "b_nonmembers"))
    sides = (member_clusters, nonmember_clusters, member_weights, nonmember_weights)
    ranks = rank_statistics(x, y, *sides)
    value = float(ranks.aurocs[0] - ranks.aurocs[1])
    lower, upper = _difference_interval(ranks, tail)
    return ComparisonEstimate(value, lower, upper, x.shape[1], y.shape[1], _p_value(ranks))


def swap_estimate(
    a_members: ArrayLike,
    a_nonmembers: ArrayLike,
    b_members: ArrayLike,
    b_nonmembers: ArrayLike,
    level: float = 0.95,
    *,
    member_clusters: ArrayLike | None = None,
    nonmember_clusters: ArrayLike | None = None,
    member_weights: ArrayLike | None = None,
    nonmember_weights: ArrayLike | None = None,
) -> ComparisonEstimate:
    """Inherited leakage, the two record sets changing roles between two models: (A + 1 - B)/2.

    A and B are the AUROCs of the same private against the same held-out records, A under the
    student of the private teacher, B under its counterfactual, whose teacher trained on the
    held-out side. What sets the sides apart under both models alike leaves no trace. What a teacher
    learns of the *distribution* of its side does: the estimate is one of the records alone where
    fair coins dealt the sides. It equals 1/2 + (A - B)/2, so the interval and the
    p-value (of "the estimate is 1/2") are those of `paired_difference`.

    Args:
        a_members: [n] scores of the private records under the student.
        a_nonmembers: [m] scores of the held-out records under the student.
        b_members: [n] scores of the same private records under the counterfactual student.
        b_nonmembers: [m] scores of the same held-out records under the counterfactual student.
        level: Confidence level.
        member_clusters: [n] integer ids, or None for independent records.
        nonmember_clusters: [m] integer ids; the same id on both sides is the same cluster.
        member_weights: [n] how much each member counts, at least 0, or None for all alike.
        nonmember_weights: [m] the same of the non-members.

    Returns:
        Estimate in [0, 1], 1/2 where the teacher's private records leave no trace.

    Raises:
        ValueError: As for `paired_difference`.
    """
    difference = paired_difference(
        a_members,
        a_nonmembers,
        b_members,
        b_nonmembers,
        level,
        member_clusters=member_clusters,
        nonmember_clusters=nonmember_clusters,
        member_weights=member_weights,
        nonmember_weights=nonmember_weights,
    )
    value, lower, upper = (
        0.5 + end / 2.0 for end in (difference.value, difference.lower, difference.upper)
    )
    return replace(difference, value=value, lower=lower, upper=upper)


def _pair(a: FloatArray, b: FloatArray) -> FloatArray:
    """Scores of the same records under two models, [2, n]."""
    if a.size != b.size:
        raise ValueError(f"paired scores: {a.size} records under a, {b.size} under b")
    return np.stack([a, b])


def _difference_interval(ranks: RankStatistics, tail: float) -> tuple[float, float]:
    """Interval of the first AUROC minus the second."""
    first, second = (ranks.term(model, tail) for model in (0, 1))
    lower, upper = difference_bounds(first, second, ranks.correlation)
    return max(-1.0, lower), min(1.0, upper)


def _p_value(ranks: RankStatistics) -> float:
    """Smallest tail probability at which the interval of the difference still excludes 0."""
    difference = float(ranks.aurocs[0] - ranks.aurocs[1])
    if difference == 0.0:
        return 1.0
    near = 0 if difference > 0.0 else 1
    sign = 1.0 if difference > 0.0 else -1.0

    def clearance(log_tail: float) -> float:
        return sign * _difference_interval(ranks, float(np.exp(log_tail)))[near]

    if clearance(0.0) <= 0.0:
        return 1.0
    smallest = float(np.log(_SMALLEST_P))
    if clearance(smallest) >= 0.0:
        return _SMALLEST_P
    return float(np.exp(optimize.brentq(clearance, smallest, 0.0, xtol=1e-10)))
