"""Figures of several techniques, tasks or blocks with their common uncertainty."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from callbacks.statistics import minimal_detectable_difference
from studies.claims.verdict import ALPHA

__all__ = ["Contrast", "Sample", "largest_contrasts"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Contrast:
    """A figure with a standard error: Student's t over replicates, normal over records.

    Attributes:
        value: The figure.
        error: Its standard error, 0 where all replicates agree: the figure is then certain.
        df: Degrees of freedom, infinite over records.
    """

    value: float
    error: float
    df: float

    def p_above(self, bound: float) -> float:
        """Returns the one-sided p-value of "the true figure is at most the bound"."""
        if self.error == 0.0:
            return 0.0 if self.value > bound else 1.0
        distance = (self.value - bound) / self.error
        tail = special.ndtr(-distance) if np.isinf(self.df) else special.stdtr(self.df, -distance)
        return float(tail)

    def p_below(self, bound: float) -> float:
        """Returns the one-sided p-value of "the true figure is at least the bound"."""
        return Contrast(-self.value, self.error, self.df).p_above(-bound)

    def p_zero(self) -> float:
        """Returns the two-sided p-value of "the true figure is 0"."""
        return min(1.0, 2.0 * min(self.p_above(0.0), self.p_below(0.0)))

    def bounds(self, alpha: float = ALPHA) -> tuple[float, float]:
        """Returns the lower and the upper one-sided bound, each at level 1 - alpha."""
        half = _critical(alpha, self.df) * self.error
        return self.value - half, self.value + half

    def mde(self, alpha: float = ALPHA) -> float:
        """Returns the smallest distance from a bound that a one-sided test finds 8 times in 10."""
        return self.error * _detectable(alpha, self.df)


@dataclass(frozen=True)
class Sample:
    """Figures of K columns on the same replicates, or of one set of weights on the same records.

    Attributes:
        columns: K names.
        means: [K].
        covariance: [K, K] of the means.
        df: R - 1; infinite where records are the unit.
        values: [R, K] by replicate; None where records are the unit.
    """

    columns: tuple[str, ...]
    means: FloatArray
    covariance: FloatArray
    df: float
    values: FloatArray | None

    @staticmethod
    def of_replicates(columns: Sequence[str], values: FloatArray) -> "Sample":
        """Makes the sample of two replicates or more.

        Args:
            columns: K names.
            values: [R, K] without NaN.

        Raises:
            ValueError: Fewer than two replicates, or a NaN.
        """
        if len(values) < 2 or np.isnan(values).any():
            raise ValueError(f"expected two complete replicates or more, found {values.tolist()}")
        covariance = np.atleast_2d(np.cov(values, rowvar=False)) / len(values)
        return Sample(tuple(columns), values.mean(axis=0), covariance, len(values) - 1, values)

    def contrast(self, weights: Mapping[str, float]) -> Contrast:
        """Returns a weighted sum of columns."""
        w = np.array([weights.get(name, 0.0) for name in self.columns])
        error = float(max(0.0, w @ self.covariance @ w)) ** 0.5
        return Contrast(float(self.means @ w), error, self.df)

    def p_equal(self) -> float:
        """Returns the p-value of "all columns are equal".

        Over replicates, the F test of the columns' variance component in the additive model with
        replicate as a random effect (two-way analysis of variance without repetition); over
        records, the Wald test with their covariance.
        """
        k = len(self.columns)
        centred = self.means - self.means.mean()
        if self.values is None:
            contrasts = np.eye(k)[:-1] - np.eye(k)[-1]
            spread = contrasts @ self.covariance @ contrasts.T
            rank = int(np.linalg.matrix_rank(spread, hermitian=True))
            differences = contrasts @ self.means
            wald = float(differences @ np.linalg.pinv(spread, hermitian=True) @ differences)
            return float(stats.chi2.sf(wald, rank)) if rank else 1.0
        r = len(self.values)
        rest = self.values - self.values.mean(axis=1, keepdims=True) - centred
        between, within = r * (centred @ centred) / (k - 1), (rest**2).sum() / ((k - 1) * (r - 1))
        if within == 0.0:
            return 0.0 if between > 0.0 else 1.0
        return float(stats.f.sf(between / within, k - 1, (k - 1) * (r - 1)))


@cache
def _critical(alpha: float, df: float) -> float:
    return float(stats.t.isf(alpha, df))


@cache
def _detectable(alpha: float, df: float) -> float:
    """Returns the detectable difference in standard errors, of which it is a multiple."""
    return minimal_detectable_difference(1.0, df, level=1.0 - 2.0 * alpha)


def largest_contrasts(sample: Sample) -> dict[tuple[str, str], Contrast]:
    """Returns the difference of every ordered pair of columns, the largest first."""
    found = {(a, b): sample.contrast({a: 1.0, b: -1.0}) for a, b in permutations(sample.columns, 2)}
    return dict(sorted(found.items(), key=lambda item: -item[1].value))
