"""Means over records with their intervals; the unit that is resampled in thought is the cluster."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


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
    Techniques*, eq. 6.13), with one degree of freedom per cluster but one. With ones as
    denominators and no clusters this is the usual t interval of a mean.

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
    residuals = _cluster_totals(top - value * bottom, clusters)
    count = len(residuals)
    if count < 2:
        return UtilityEstimate(float(value), None, None, len(top))
    error = math.sqrt(count / (count - 1) * np.square(residuals).sum()) / bottom.sum()
    margin = float(stats.t.ppf((1 + level) / 2, count - 1)) * error
    return UtilityEstimate(float(value), float(value - margin), float(value + margin), len(top))


def share_interval(
    values: ArrayLike, clusters: Sequence[Hashable] | None = None, level: float = 0.95
) -> UtilityEstimate:
    """Estimate the mean of numbers in [0, 1], with an interval inside [0, 1].

    Where every number sits at one end, the t interval has no width; the other bound is then the
    exact one for the probability that a cluster leaves that end, 1 - (alpha/2)**(1/clusters).

    Args:
        values: One number per record, [B], in [0, 1].
        clusters: Each record's cluster; None: each its own.
        level: Coverage.

    Raises:
        ValueError: If a number is outside [0, 1], or as in `ratio_interval`.
    """
    numbers = np.asarray(values, dtype=float)
    if ((numbers < 0) | (numbers > 1)).any():
        raise ValueError("a share lies in [0, 1]")
    estimate = ratio_interval(numbers, np.ones_like(numbers), clusters, level)
    if estimate.lower is None or estimate.upper is None:
        return estimate
    lower, upper = max(0.0, estimate.lower), min(1.0, estimate.upper)
    count = len(set(clusters)) if clusters is not None else len(numbers)
    reach = 1 - ((1 - level) / 2) ** (1 / count)
    if (numbers == 0).all():
        upper = reach
    if (numbers == 1).all():
        lower = 1 - reach
    return UtilityEstimate(estimate.value, lower, upper, estimate.n)


def share_by_task(
    values: ArrayLike,
    tasks: Sequence[str],
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Mapping[str, UtilityEstimate]:
    """Return `share_interval` of each task that has records, tasks in alphabetical order.

    Raises:
        ValueError: If lengths differ, or as in `share_interval`.
    """
    numbers = np.asarray(values, dtype=float)
    if len(numbers) != len(tasks):
        raise ValueError(f"{len(numbers)} values but {len(tasks)} tasks")
    estimates = {}
    for task in sorted(set(tasks)):
        rows = rows_of(tasks, task)
        own = None if clusters is None else [clusters[row] for row in rows]
        estimates[task] = share_interval(numbers[rows], own, level)
    return estimates


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


def _cluster_totals(
    values: NDArray[np.float64], clusters: Sequence[Hashable] | None
) -> NDArray[np.float64]:
    if clusters is None:
        return values
    totals: dict[Hashable, float] = {}
    for value, cluster in zip(values.tolist(), clusters, strict=True):
        totals[cluster] = totals.get(cluster, 0.0) + value
    return np.array(list(totals.values()))
