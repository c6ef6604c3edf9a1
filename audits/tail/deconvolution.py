"""Shares of records by their true separation, out of estimates that have noise on top of it.

Estimates spread wider than what they estimate, so the share of estimates above a value says more
than is true. The distribution of true values is fitted by maximum likelihood among all
distributions (Kiefer and Wolfowitz 1956, Annals of Mathematical Statistics 27), and the interval
of a share holds the values that a likelihood ratio does not reject.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from audits.statistics.clusters import critical_value
from audits.statistics.estimates import FloatArray

_NODES = 200
_SPACING = 0.25
_HEAVY = 1e3
_MOST_STEPS = 100


@dataclass(frozen=True)
class Shares:
    """Likelihood of shares of records at or above one true noncentrality.

    Attributes:
        below: [n, a] density of each statistic under each noncentrality up to the cut.
        above: [n, b] the same from the cut on; both sides hold the cut itself.
    """

    below: FloatArray
    above: FloatArray

    def most_likely(self) -> tuple[float, float]:
        """The share above, and its log-likelihood."""
        densities = np.hstack([self.below, self.above])
        weights, log_likelihood = maximised(densities, np.ones((1, densities.shape[1])), np.ones(1))
        return float(weights[self.below.shape[1] :].sum()), log_likelihood

    def log_likelihood(self, share: float) -> float:
        """The largest log-likelihood of a distribution with this share above."""
        if share in (0.0, 1.0):
            side = self.above if share else self.below
            return maximised(side, np.ones((1, side.shape[1])), np.ones(1))[1]
        densities = np.hstack([self.below, self.above])
        above = np.arange(densities.shape[1]) >= self.below.shape[1]
        sums = np.stack([~above, above]).astype(np.float64)
        return maximised(densities, sums, np.array([1.0 - share, share]))[1]

    def interval(self, tail: float) -> tuple[float, float]:
        """Shares that the likelihood ratio does not reject, by its chi-square of one degree."""
        value, best = self.most_likely()
        least = best - critical_value(tail) ** 2 / 2.0

        def margin(share: float) -> float:
            return self.log_likelihood(share) - least

        ends = []
        for end in (0.0, 1.0):
            inside = value == end or margin(end) >= 0.0
            ends.append(end if inside else float(optimize.brentq(margin, end, value, xtol=1e-3)))
        return ends[0], ends[1]


def shares(statistic: FloatArray, degrees: float, cut: float) -> Shares:
    """Sets the deconvolution up for statistics that are noncentral t.

    Args:
        statistic: [n] moderated statistics, independent.
        degrees: Their degrees of freedom.
        cut: The noncentrality whose share above is asked for.
    """
    low, high = min(float(statistic.min()), cut) - 1.0, max(float(statistic.max()), cut) + 1.0
    steps = math.ceil((cut - low) / _SPACING), math.ceil((high - cut) / _SPACING)
    below, above = np.linspace(low, cut, steps[0] + 1), np.linspace(cut, high, steps[1] + 1)
    return Shares(*(noncentral_t(statistic, degrees, side) for side in (below, above)))


def noncentral_t(statistic: FloatArray, degrees: float, centres: FloatArray) -> FloatArray:
    """Density of Student's noncentral t, [n, m], as a mean over quantiles of the deviation."""
    middles = (np.arange(_NODES) + 0.5) / _NODES
    ratios = np.sqrt(special.gammaincinv(degrees / 2.0, middles) * 2.0 / degrees)
    total = np.zeros((statistic.size, centres.size))
    for ratio in ratios:
        distance = ratio * statistic[:, None] - centres
        total += ratio * np.exp(-0.5 * distance**2)
    return total / (_NODES * math.sqrt(2.0 * math.pi))


def maximised(
    densities: FloatArray, sums: FloatArray, targets: FloatArray
) -> tuple[FloatArray, float]:
    """Weights of a mixture's components of maximum likelihood, under given sums of weights.

    Newton steps under constraints, each a least-squares problem with weights of at least 0, and a
    line search (Wang 2007, Journal of the Royal Statistical Society B 69).

    Args:
        densities: [n, m] of each observation under each component.
        sums: [c, m] 0 or 1; each component is in one sum.
        targets: [c] what the sums are, above 0; 1 together.

    Returns:
        [m] weights, and the log-likelihood.
    """
    weights = sums.T @ (targets / sums.sum(axis=1))
    mixture = densities @ weights
    best = float(np.log(mixture).sum())
    for _ in range(_MOST_STEPS):
        ratios = densities / mixture[:, None]
        aim = np.concatenate([np.full(len(mixture), 2.0), _HEAVY * targets])
        proposed, _ = optimize.nnls(np.vstack([ratios, _HEAVY * sums]), aim, maxiter=20 * sums.size)
        scale = targets / np.maximum(sums @ proposed, np.finfo(float).tiny)
        step = proposed * (sums.T @ scale) - weights
        slope = float((ratios @ step).sum())
        if slope < 1e-3:
            break
        size = 1.0
        while size > 1e-6:
            moved = densities @ (weights + size * step)
            found = float(np.log(np.maximum(moved, 1e-300)).sum())
            if found >= best + 0.1 * size * slope:
                break
            size /= 2.0
        weights, mixture, best = weights + size * step, moved, found
    return weights, best
