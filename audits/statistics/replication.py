"""Statements over replicates: a fresh split, teacher seed and student seed each."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from audits.statistics.estimates import as_scores, tail_probability

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
