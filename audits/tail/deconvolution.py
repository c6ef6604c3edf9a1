"""Shares of records by their true separation, out of estimates that have noise on top of it.

Estimates spread wider than what they estimate, so the share of estimates above a value says more
than is true. The distribution of true values is fitted by maximum likelihood among all
distributions (Kiefer and Wolfowitz 1956, Annals of Mathematical Statistics 27), and the interval
of a share holds the values that a likelihood ratio does not reject.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import optimize, special

from audits.statistics.estimates import FloatArray, IntArray

_NODES = 200
_SPACING = 0.4
_ROUNDED = 0.02
_FARTHEST = 50.0
_LEAST_DENSITY = 1e-250
_HEAVY = 1e3
_MOST_STEPS = 100


@dataclass(frozen=True)
class Shares:
    """Likelihood of shares of records at or above one true noncentrality.

    Attributes:
        counts: [n] records of each distinct statistic.
        below: [n, a] density of each statistic under each noncentrality up to the cut.
        above: [n, b] the same from the cut on; both sides hold the cut itself.
    """

    counts: IntArray
    below: FloatArray
    above: FloatArray

    @cached_property
    def most_likely(self) -> tuple[float, float]:
        """The share above, and its log-likelihood."""
        densities = np.hstack([self.below, self.above])
        weights, log_likelihood = self._free(densities)
        return float(weights[self.below.shape[1] :].sum()), log_likelihood

    def log_likelihood(self, share: float) -> float:
        """The largest log-likelihood of a distribution with this share above."""
        if share in (0.0, 1.0):
            return self._free(self.above if share else self.below)[1]
        densities = np.hstack([self.below, self.above])
        above = np.arange(densities.shape[1]) >= self.below.shape[1]
        sums = np.stack([~above, above]).astype(np.float64)
        return maximised(self.counts, densities, sums, np.array([1.0 - share, share]))[1]

    def _free(self, densities: FloatArray) -> tuple[FloatArray, float]:
        return maximised(self.counts, densities, np.ones((1, densities.shape[1])), np.ones(1))

    def bound(self, end: float, drop: float) -> float:
        """The share farthest towards an end whose log-likelihood is at most `drop` below the best.

        Args:
            end: 0 for the lower bound, 1 for the upper one.
            drop: At least 0.
        """
        value, best = self.most_likely

        def margin(share: float) -> float:
            return self.log_likelihood(share) - best + drop

        if value == end or margin(end) >= 0.0:
            return end
        if margin(value) <= 0.0:
            return value
        return float(optimize.brentq(margin, end, value, xtol=1e-3))


def shares(statistic: FloatArray, degrees: float, cut: float) -> Shares:
    """Sets the deconvolution up for statistics that are noncentral t.

    Args:
        statistic: [n] moderated statistics, independent; taken to two hundredths, and those more
            than 50 from the cut as 50 from it, where nothing is left to doubt.
        degrees: Their degrees of freedom.
        cut: The noncentrality whose share above is asked for.
    """
    statistic = np.clip(statistic, cut - _FARTHEST, cut + _FARTHEST)
    statistic, counts = np.unique(_ROUNDED * np.round(statistic / _ROUNDED), return_counts=True)
    low, high = min(float(statistic.min()), cut) - 1.0, max(float(statistic.max()), cut) + 1.0
    steps = math.ceil((cut - low) / _SPACING), math.ceil((high - cut) / _SPACING)
    below, above = np.linspace(low, cut, steps[0] + 1), np.linspace(cut, high, steps[1] + 1)
    return Shares(counts, *(noncentral_t(statistic, degrees, side) for side in (below, above)))


def noncentral_t(statistic: FloatArray, degrees: float, centres: FloatArray) -> FloatArray:
    """Density of Student's noncentral t, [n, m], as a mean over quantiles of the deviation."""
    middles = (np.arange(_NODES) + 0.5) / _NODES
    ratios = np.sqrt(special.gammaincinv(degrees / 2.0, middles) * 2.0 / degrees)
    total = np.zeros((statistic.size, centres.size))
    for ratio in ratios:
        distance = ratio * statistic[:, None] - centres
        total += ratio * np.exp(-0.5 * distance**2)
    return np.maximum(total / (_NODES * math.sqrt(2.0 * math.pi)), _LEAST_DENSITY)


def maximised(
    counts: IntArray, densities: FloatArray, sums: FloatArray, targets: FloatArray
) -> tuple[FloatArray, float]:
    """Weights of a mixture's components of maximum likelihood, under given sums of weights.

    Newton steps under constraints, each a least-squares problem with weights of at least 0, and a
    line search (Wang 2007, Journal of the Royal Statistical Society B 69).

    Args:
        counts: [n] how often each observation was made.
        densities: [n, m] of each observation under each component.
        sums: [c, m] 0 or 1; each component is in one sum.
        targets: [c] what the sums are, above 0; 1 together.

    Returns:
        [m] weights, and the log-likelihood.
    """
    weights = sums.T @ (targets / sums.sum(axis=1))
    mixture = densities @ weights
    best = float(counts @ np.log(mixture))
    roots = np.sqrt(counts)
    for _ in range(_MOST_STEPS):
        ratios = (roots / mixture)[:, None] * densities
        rows, aim = np.vstack([ratios, _HEAVY * sums]), np.append(2.0 * roots, _HEAVY * targets)
        proposed, _ = optimize.nnls(rows, aim, maxiter=20 * sums.size)
        scale = targets / np.maximum(sums @ proposed, np.finfo(float).tiny)
        step = proposed * (sums.T @ scale) - weights
        slope = float(roots @ (ratios @ step))
        if slope < 1e-3:
            break
        size = 1.0
        while size > 1e-6:
            moved = densities @ (weights + size * step)
            found = float(counts @ np.log(np.maximum(moved, 1e-300)))
            if found >= best + 0.1 * size * slope:
                break
            size /= 2.0
        weights, mixture, best = weights + size * step, moved, found
    return weights, best
