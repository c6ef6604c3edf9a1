"""Figures of several techniques, tasks or blocks with their common uncertainty."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from audits.statistics import minimal_detectable_difference
from audits.statistics.equality import wald_test
from audits.statistics.replication import has_variance
from common.wording import estimate_text
from studies.claims.verdict import ALPHA

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Contrast:
    """A figure with a standard error: Student's t over replicates, normal over records.

    Where all replicates or records agree, the figure has no standard error to be judged by: nothing
    is then rejected, and no bound is known.

    Attributes:
        value: The figure.
        error: Its standard error.
        df: Degrees of freedom, infinite over records.
    """

    value: float
    error: float
    df: float

    @property
    def testable(self) -> bool:
        """Whether there is a variance to judge the figure by."""
        return has_variance(self.error, self.value)

    def p_above(self, bound: float) -> float:
        """Returns the one-sided p-value of "the true figure is at most the bound"."""
        if not self.testable:
            return 1.0
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
        half = _critical(alpha, self.df) * self.error if self.testable else np.inf
        return self.value - half, self.value + half

    def mde(self, alpha: float = ALPHA) -> float:
        """Returns the smallest distance from a bound that a one-sided test finds 8 times in 10."""
        return self.error * _detectable(alpha, self.df) if self.testable else np.inf

    def text(self, sign: str = "") -> str:
        """Returns the figure with its one-sided bounds, or why it has none.

        Args:
            sign: "+" shows the sign of positive numbers, as of differences.
        """
        if not self.testable:
            return f"{self.value:{sign}.3f} (no variance to test with)"
        return estimate_text(self.value, *self.bounds(), style=f"{sign}.3f")


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
        """Returns the p-value of "all columns are equal"; 1 where there is no variance to test by.

        Over replicates, the F test of the columns' variance component in the additive model with
        replicate as a random effect (two-way analysis of variance without repetition), whose
        degrees of freedom are multiplied by Box's epsilon as estimated (Box 1954, Annals of
        Mathematical Statistics 25; Greenhouse and Geisser 1959, Psychometrika 24): columns vary
        unequally, and without it the test is wrong three times as often as it says. Over records,
        the Wald test with their covariance.
        """
        if self.values is None:
            return wald_test(self.means, self.covariance)[1]
        k, r = len(self.columns), len(self.values)
        centred = self.means - self.means.mean()
        rest = self.values - self.values.mean(axis=1, keepdims=True) - centred
        within = float((rest**2).sum()) / ((k - 1) * (r - 1)) if k > 1 else 0.0
        if not has_variance(within**0.5, float(np.abs(self.means).max())):
            return 1.0
        between = r * float(centred @ centred) / (k - 1)
        epsilon = _box_epsilon(rest)
        df = epsilon * (k - 1)
        return float(stats.f.sf(between / within, df, df * (r - 1)))


def _box_epsilon(rest: FloatArray) -> float:
    """Returns how far residuals [R, K] are from equal variances: 1/(K - 1) to 1, which is equal."""
    products = rest.T @ rest
    share = float(np.trace(products)) ** 2 / float((products**2).sum())
    return min(1.0, share / (rest.shape[1] - 1))


def untestable(contrasts: Mapping[str, Contrast]) -> str:
    """Returns the reason why figures could not be tested, to end a sentence; empty if all were."""
    names = [name for name, one in contrasts.items() if not one.testable]
    if not names:
        return ""
    return f"; not computable of {', '.join(names)}: all values agree, with no variance to test by"


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
