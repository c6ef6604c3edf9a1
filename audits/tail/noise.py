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
        values: [n] ascending, `standard_scores`.
        degrees: Of the deviations that residuals were divided by.
    """

    values: FloatArray
    degrees: float

    def upper_point(self, share: float, errors: float = 0.0) -> float:
        """The point that a share of scores exceeds, in standard deviations.

        Beyond the 50 largest scores the tail is continued: squares of what exceeds that point are
        taken as exponential, as they nearly are for a normal distribution (by 0.02 at 0.1%), with
        the mean that they have here. Where more than 50 scores lie above the point itself, it is
        their order statistic. The square's standard error is Weissman's (1978, Journal of the
        American Statistical Association 73).

        The point is then taken back to residuals as they were divided, and made smaller by as much
        as an estimated deviation widens the same point of normal ones.

        Args:
            share: In (0, 0.5).
            errors: By how many standard errors to move the square of the point.
        """
        n = self.values.size
        k = max(min(_EXCEEDANCES, n // 4), math.ceil(share * n))
        at = max(0.0, float(self.values[n - k - 1])) ** 2
        mean = float(np.square(self.values[n - k :]).mean()) - at
        beyond = max(0.0, math.log(k / (share * n)))
        square = at + mean * (beyond + errors * math.sqrt((1.0 + beyond**2) / k))
        beyond_it = float(special.ndtr(-math.sqrt(max(0.0, square))))
        widened = -special.stdtrit(self.degrees, beyond_it)
        return float(widened * special.ndtri(share) / special.stdtrit(self.degrees, share))


def pooled_noise(found: WorldScores, null: WorldScores) -> Noise:
    """Pools the worlds that did not meet a record: those with its coin, and all of the never-seen.

    Args:
        found: One record of each cluster, or clusters' means.
        null: The same of never-seen records.
    """
    fits = moderated(found), moderated(null)
    ours, theirs = map(standard_scores, fits)
    values = np.sort(np.concatenate([ours[~found.met], theirs.ravel()]))
    return Noise(values, fits[0].degrees - 1.0)


def separation_found(noise: Noise, tpr: float, fpr: float, errors: float = 0.0) -> float:
    """The separation from which on an attacker finds a record with this TPR at this FPR.

    The threshold that a share `fpr` of out-scores exceeds must be exceeded by a share `tpr` of
    in-scores, which are out-scores moved by the separation.

    Args:
        noise: Of out-scores.
        tpr: Share of in-scores.
        fpr: Share of out-scores, below `tpr`.
        errors: By how many standard errors to move the threshold; that of the quantile at `tpr` is
            small beside them.
    """
    return noise.upper_point(fpr, errors) - noise.upper_point(tpr)
