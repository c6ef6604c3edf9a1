"""Tail of the scores of a record between worlds that did not meet it: not a normal one."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from audits.statistics.estimates import FloatArray
from audits.tail.moderation import Moderated, moderated, shrunk
from audits.tail.world_scores import WorldScores

_EXCEEDANCES = 50


def standard_scores(fit: Moderated) -> FloatArray:
    """Residuals of every world and record in standard deviations, as of a known deviation.

    A residual divided by a deviation that it took part in cannot be large: each is divided by the
    one of the other worlds, and Student's t is then turned into the normal of the same
    probability. Normal scores come out exactly normal, heavy tails heavy.

    Returns:
        [worlds, records].
    """
    n, own = fit.pairs, fit.own_degrees
    squares = np.square(fit.residuals) * n / (n - 1)
    without = np.maximum(np.square(fit.residuals).sum(axis=0) - squares, 0.0) / (own - 1)
    variance = shrunk(without, own - 1, fit.prior_degrees, fit.prior_variance)
    t = np.sign(fit.residuals) * np.sqrt(squares / variance)
    degrees = min(own - 1 + fit.prior_degrees, 1e6)
    # Through the upper tail: a probability near 1 has no digits left.
    return np.asarray(-np.sign(t) * special.ndtri(special.stdtr(degrees, -np.abs(t))))


@dataclass(frozen=True)
class Noise:
    """How far a score of a record that was not met lies from its mean, pooled over records.

    Attributes:
        values: [n] ascending, in standard deviations.
    """

    values: FloatArray

    def upper_point(self, share: float) -> tuple[float, float]:
        """The point that a share of scores exceeds, and the standard error of its square.

        Beyond the 50 largest scores the tail is continued: squares of what exceeds that point are
        taken as exponential, as they nearly are for a normal distribution (by 0.02 at 0.1%), with
        the mean that they have here. Where more than 50 scores lie above the point itself, it is
        their order statistic. The error is Weissman's (1978, Journal of the American Statistical
        Association 73).

        Args:
            share: In (0, 0.25].
        """
        n = self.values.size
        k = min(max(_EXCEEDANCES, math.ceil(share * n)), n // 4)
        at = float(self.values[n - k - 1]) ** 2
        mean = float(np.square(self.values[n - k :]).mean()) - at
        beyond = max(0.0, math.log(k / (share * n)))
        return math.sqrt(at + mean * beyond), mean * math.sqrt((1.0 + beyond**2) / k)


def pooled_noise(found: WorldScores, null: WorldScores) -> Noise:
    """Pools the worlds that did not meet a record: those with its coin, and all of the never-seen.

    Args:
        found: One record of each cluster, or clusters' means.
        null: The same of never-seen records.
    """
    ours, theirs = (standard_scores(moderated(one)) for one in (found, null))
    return Noise(np.sort(np.concatenate([ours[~found.met], theirs.ravel()])))


def separation_found(noise: Noise, tpr: float, fpr: float) -> tuple[float, float, float]:
    """The separation from which on an attacker finds a record with this TPR at this FPR.

    The threshold that a share `fpr` of out-scores exceeds must be exceeded by a share `tpr` of
    in-scores, which are out-scores moved by the separation.

    Returns:
        The separation, with 95% bounds for the error of the threshold; of both the latter dominates
        the smaller error of the quantile at `tpr`.
    """
    threshold, error = noise.upper_point(fpr)
    own = float(np.quantile(noise.values, 1.0 - tpr))
    bounds = (math.sqrt(max(0.0, threshold**2 + side * error)) for side in (-1.96, 1.96))
    lower, upper = bounds
    return threshold - own, lower - own, upper - own
