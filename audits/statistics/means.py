"""Means over records with their intervals; the unit that is resampled in thought is the cluster."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audits.statistics.bounded_mean import bounded_mean_interval
from audits.statistics.clusters import critical_value, degrees_of_freedom
from audits.statistics.estimates import tail_probability
from audits.statistics.recovered_variance import Term, difference_bounds


@dataclass(frozen=True, slots=True)
class UtilityEstimate:
    """A figure with its interval.

    Attributes:
        value: The point estimate.
        lower: Lower bound, or None where one cluster alone gives no interval.
        upper: Upper bound, or None likewise.
        n: Records behind it.
    """

    value: float
    lower: float | None
    upper: float | None
    n: int


def ratio_interval(
    numerators: ArrayLike,
    denominators: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> UtilityEstimate:
    """Estimate sum(numerators) / sum(denominators) with a Student t interval over clusters.

    The standard error is the delta method's for a ratio of cluster totals (Cochran 1977, *Sampling
    Techniques*, eq. 6.13), with the degrees of freedom that the clusters' weights leave
    (`clusters.degrees_of_freedom`): one per cluster but one where they are alike, fewer where a few
    clusters hold most of the weight. With ones as denominators and no clusters this is the usual t
    interval of a mean.

    Args:
        numerators: One number per record, [B].
        denominators: One non-negative weight per record, [B].
        clusters: Each record's cluster (shared passage, near-duplicate); None: each its own.
        level: Coverage.

    Returns:
        The ratio, its bounds and the number of records.

    Raises:
        ValueError: If there is no record, lengths differ, a number is not finite, a weight is
            negative, or all weights are 0.
    """
    top, bottom = np.asarray(numerators, dtype=float), np.asarray(denominators, dtype=float)
    _check(top, bottom, clusters)
    value = top.sum() / bottom.sum()
    index = _cluster_index(len(top), clusters)
    residuals = top - value * bottom
    totals = np.bincount(index, weights=residuals)
    count = np.count_nonzero(np.bincount(index, weights=bottom))
    if count < 2:
        return UtilityEstimate(float(value), None, None, len(top))
    error = math.sqrt(count / (count - 1) * np.square(totals).sum()) / bottom.sum()
    each = np.divide(residuals, bottom, out=np.zeros_like(residuals), where=bottom > 0.0)
    degrees = float(degrees_of_freedom(each[None], bottom, index)[0])
    margin = critical_value(tail_probability(level), degrees) * error
    return UtilityEstimate(float(value), float(value - margin), float(value + margin), len(top))


def share_interval(
    values: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    *,
    weights: ArrayLike | None = None,
    low: float = 0.0,
) -> UtilityEstimate:
    """Estimate the mean of numbers in [0, 1], or of their differences, with an interval in range.

    The interval is `bounded_mean.bounded_mean_interval`'s, which covers also where almost every
    number sits at one end of the range and a t interval has little width or none.

    Args:
        values: One number per record, [B], in [low, 1].
        clusters: Each record's cluster; None: each its own.
        level: Coverage.
        weights: How much each record counts, [B]; None: all alike.
        low: Lower end of the range: 0, or -1 for differences of two numbers in [0, 1].

    Raises:
        ValueError: If a number is out of range, or as in `ratio_interval`.
    """
    numbers = np.asarray(values, dtype=float)
    counted = np.ones_like(numbers) if weights is None else np.asarray(weights, dtype=float)
    _check(numbers, counted, clusters)
    if ((numbers < low) | (numbers > 1.0)).any():
        raise ValueError(f"a number lies outside [{low:g}, 1]")
    mean = float(counted @ numbers / counted.sum())
    index = _cluster_index(len(numbers), clusters)
    if len(np.unique(index[counted > 0.0])) < 2:
        return UtilityEstimate(mean, None, None, len(numbers))
    bounds = bounded_mean_interval(numbers, counted, index, low, 1.0, tail_probability(level))
    return UtilityEstimate(mean, *bounds, len(numbers))


def gap(members: UtilityEstimate, nonmembers: UtilityEstimate) -> UtilityEstimate:
    """Return members minus non-members, with an interval recovered from theirs.

    Unlike a t interval it keeps a width where no record of either side is memorized, and it ends
    inside the range of the gap where theirs end inside their own.

    Returns:
        The signed gap; no bounds where a side has none; the records of both sides.
    """
    value, n = members.value - nonmembers.value, members.n + nonmembers.n
    inside, outside = _term(members), _term(nonmembers)
    if inside is None or outside is None:
        return UtilityEstimate(value, None, None, n)
    return UtilityEstimate(value, *difference_bounds(inside, outside), n)


def _term(one: UtilityEstimate) -> Term | None:
    if one.lower is None or one.upper is None:
        return None
    return Term(one.value, one.lower, one.upper)


def rows_of(tasks: Sequence[str], task: str) -> list[int]:
    """Return the indices of a task's records."""
    return [row for row, name in enumerate(tasks) if name == task]


def _check(
    top: NDArray[np.float64], bottom: NDArray[np.float64], clusters: Sequence[Hashable] | None
) -> None:
    if top.ndim != 1 or len(top) == 0:
        raise ValueError("an estimate needs a list of at least one record")
    if top.shape != bottom.shape or (clusters is not None and len(clusters) != len(top)):
        raise ValueError("numerators, denominators and clusters must have one entry per record")
    if not (np.isfinite(top).all() and np.isfinite(bottom).all()):
        raise ValueError("a record's number is not finite")
    if (bottom < 0).any() or bottom.sum() == 0:
        raise ValueError("weights must not be negative, nor all 0")


def _cluster_index(n: int, clusters: Sequence[Hashable] | None) -> NDArray[np.int64]:
    """Return the number of each record's cluster, [B]."""
    if clusters is None:
        return np.arange(n)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    return np.array([numbers[name] for name in clusters], dtype=np.int64)
