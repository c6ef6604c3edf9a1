"""Statements over replicates: a fresh split, teacher seed and student seed each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from callbacks.statistics.estimates import (
    FloatArray,
    IntArray,
    as_clusters,
    as_scores,
    tail_probability,
)

_ROUNDING = 1e-12


@dataclass(frozen=True)
class ReplicateEstimate:
    """A mean over replicates and its interval.

    Attributes:
        value: Mean over the replicates.
        lower: Lower end of the interval, at the level asked for.
        upper: Upper end of the interval.
        n_replicates: Replicates behind it.
        standard_error: Standard error of the mean between replicates; NaN where there is none.
    """

    value: float
    lower: float
    upper: float
    n_replicates: int
    standard_error: float

    @property
    def has_interval(self) -> bool:
        """Whether the replicates tell how far the mean may be off."""
        return bool(np.isfinite(self.lower) and np.isfinite(self.upper))


@dataclass(frozen=True)
class Replicate:
    """Scores of one replicate under the K models that a statistic compares.

    Attributes:
        members: [K, n] float64.
        nonmembers: [K, m] float64.
        member_clusters: [n] integer ids, or None for independent records.
        nonmember_clusters: [m] integer ids, or None.
    """

    members: FloatArray
    nonmembers: FloatArray
    member_clusters: IntArray | None = None
    nonmember_clusters: IntArray | None = None


def has_variance(standard_error: float, value: float) -> bool:
    """Whether a standard error is more than the rounding of figures that all agree.

    Args:
        standard_error: Of the value.
        value: What it belongs to; its size is that of the rounding.
    """
    return standard_error > _ROUNDING * max(1.0, abs(value))


def replicate_mean(values: ArrayLike, level: float = 0.95) -> ReplicateEstimate:
    """Mean over replicates with Student's t interval, R - 1 degrees of freedom.

    One replicate says nothing about others, nor do several that all agree, which have no variance
    to tell by: the interval is then the whole line.

    Args:
        values: [R] one figure per replicate (a difference, where techniques are compared).
        level: Confidence level.

    Returns:
        Mean, interval and standard error, in the unit of `values`.

    Raises:
        ValueError: No values, NaN among them, or a level outside (0, 1).
    """
    tail = tail_probability(level)
    sample = as_scores(values, "values")
    mean, r = float(sample.mean()), sample.size
    error = float(sample.std(ddof=1)) / r**0.5 if r > 1 else 0.0
    if not has_variance(error, mean):
        return ReplicateEstimate(mean, -np.inf, np.inf, r, float("nan"))
    half = float(stats.t.isf(tail / 2.0, r - 1)) * error
    return ReplicateEstimate(mean, mean - half, mean + half, r, error)


def hierarchical_bootstrap(
    replicates: Sequence[Replicate],
    statistic: Callable[[FloatArray, FloatArray], float],
    level: float = 0.95,
    *,
    n_draws: int = 2000,
    seed: int | Sequence[int] | np.random.Generator = 0,
) -> ReplicateEstimate:
    """Mean of a statistic over replicates; replicates resampled first, then clusters of records.

    Each draw takes R replicates with replacement and, within each one taken, clusters of members
    and of non-members (records where there are no clusters), the same for all K models. The
    percentile interval is expanded to probability Phi(-sqrt(R/(R - 1)) t) on each side, t the
    Student quantile with R - 1 degrees of freedom, without which it is far too short for a handful
    of replicates (Hesterberg 2015, The American Statistician 69, section 4). Resampling both
    levels counts the variation of records twice, so the interval errs towards width (Davison and
    Hinkley 1997, section 3.8).

    Args:
        replicates: R >= 2 of them.
        statistic: From scores [K, n'] and [K, m'] to a number.
        level: Confidence level.
        n_draws: Bootstrap draws.
        seed: Anything that `numpy.random.default_rng` takes.

    Returns:
        Mean over the replicates as they are, interval, and the standard error between replicates.

    Raises:
        ValueError: Fewer than two replicates, or a level outside (0, 1).
    """
    tail = tail_probability(level)
    r = len(replicates)
    if r < 2:
        raise ValueError(f"replicates: at least 2 needed to resample them, found {r}")
    rng = np.random.default_rng(seed)
    sides = [
        (
            _groups(each.members, each.member_clusters),
            _groups(each.nonmembers, each.nonmember_clusters),
        )
        for each in replicates
    ]
    draws = np.empty(n_draws)
    for draw in range(n_draws):
        figures = []
        for pick in rng.integers(r, size=r):
            x, y = (side.resampled(rng) for side in sides[pick])
            each = replicates[pick]
            figures.append(statistic(each.members[:, x], each.nonmembers[:, y]))
        draws[draw] = np.mean(figures)
    observed = replicate_mean([statistic(each.members, each.nonmembers) for each in replicates])
    wide = float(stats.norm.sf((r / (r - 1)) ** 0.5 * stats.t.isf(tail / 2.0, r - 1)))
    lower, upper = np.quantile(draws, [wide, 1.0 - wide])
    return ReplicateEstimate(observed.value, float(lower), float(upper), r, observed.standard_error)


@dataclass(frozen=True)
class _Groups:
    """Columns of [K, n] scores, cluster by cluster."""

    order: IntArray  # [n]
    starts: IntArray  # [G] where each cluster begins in `order`
    sizes: IntArray  # [G]

    def resampled(self, rng: np.random.Generator) -> IntArray:
        """Columns of G clusters drawn with replacement."""
        picks = rng.integers(self.sizes.size, size=self.sizes.size)
        lengths = self.sizes[picks]
        ends = np.cumsum(lengths)
        within = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
        return self.order[np.repeat(self.starts[picks], lengths) + within]


def _groups(scores: FloatArray, clusters: IntArray | None) -> _Groups:
    """The clusters of [K, n] scores; every record its own where there are none."""
    n = scores.shape[1]
    ids = as_clusters(clusters, n, "clusters")
    if ids is None:
        return _Groups(np.arange(n), np.arange(n), np.ones(n, dtype=np.int64))
    _, index = np.unique(ids, return_inverse=True)
    sizes = np.bincount(index)
    return _Groups(np.argsort(index, kind="stable"), np.cumsum(sizes) - sizes, sizes)


def minimal_detectable_difference(
    standard_error: float, df: float, power: float = 0.8, level: float = 0.95
) -> float:
    """Smallest true difference that a two-sided t test finds with the given power.

    The d at which the square of a noncentral t with noncentrality d / standard_error, a
    noncentral F(1, df), exceeds the square of the critical value with probability `power`. (The F
    form, since scipy's noncentral t gives NaN in its far tail.)

    Args:
        standard_error: Of the difference, positive.
        df: Degrees of freedom, R - 1 for a mean over R replicates; infinite for a normal test.
        power: Between 1 - level and 1.
        level: One minus the test's error rate.

    Returns:
        The difference, in the unit of the standard error.

    Raises:
        ValueError: A standard error or df that is not positive, or a power that is not between
            the error rate and 1.
    """
    tail = tail_probability(level)
    if not (standard_error > 0.0 and df > 0.0):
        raise ValueError(f"expected positive numbers, found {standard_error} and df {df}")
    if not tail < power < 1.0:
        raise ValueError(f"power: expected a number between {tail} and 1, found {power}")
    critical = float(stats.t.isf(tail / 2.0, df))

    def shortfall(noncentrality: float) -> float:
        square = noncentrality**2
        law = stats.ncx2(1, square) if np.isinf(df) else stats.ncf(1, df, square)
        return float(law.sf(critical**2)) - power

    ceiling = critical + float(stats.norm.ppf(power)) + 1.0
    while shortfall(ceiling) < 0.0:
        ceiling *= 2.0
    return standard_error * float(optimize.brentq(shortfall, 0.0, ceiling))
