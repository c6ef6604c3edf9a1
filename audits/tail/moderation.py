"""Differences between in and out of each record, with variances shrunk over records.

A variance of one record out of a dozen models is mostly noise, and the records that seem most
exposed are then those whose variance came out small. Smyth 2004 (Statistical Applications in
Genetics and Molecular Biology 3, "Linear models and empirical Bayes methods") draws each towards
a common value, as far as the records' own variances say that they are alike.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from audits.statistics.estimates import FloatArray
from audits.tail.world_scores import BoolArray, WorldScores

_MOST_DEGREES = 1e6
_SMALLEST_VARIANCE = 1e-5


@dataclass(frozen=True)
class Moderated:
    """What the worlds say of each record.

    Attributes:
        difference: [n] mean score of the worlds that met the record minus that of the others.
        deviation: [n] standard deviation of a score between worlds of the same coin, moderated.
        residuals: [worlds, n] score minus the mean of the worlds of the same coin.
        own_degrees: Degrees of freedom of a record's own variance, 2 pairs - 2.
        prior_degrees: Degrees that the other records add; infinite where all are alike.
        prior_variance: The variance towards which each record's is drawn.
        pairs: Pairs of worlds.
    """

    difference: FloatArray
    deviation: FloatArray
    residuals: FloatArray
    own_degrees: int
    prior_degrees: float
    prior_variance: float
    pairs: int

    @property
    def degrees(self) -> float:
        """Degrees of freedom of a moderated variance, at most a million."""
        return min(self.own_degrees + self.prior_degrees, _MOST_DEGREES)

    @property
    def statistic(self) -> FloatArray:
        """[n] moderated t: Student's with `degrees` where a record makes no difference."""
        return self.difference / (self.deviation * math.sqrt(2.0 / self.pairs))


def moderated(found: WorldScores) -> Moderated:
    """Compares the worlds that met each record with those that did not.

    What a world does to all records alike is taken out first (`without_world_effects`). Scores
    of in-worlds and out-worlds are taken to vary alike; there are equally many of both, so that
    the statistic of a record that makes no difference does not depend on it.

    Raises:
        ValueError: No record's score varies between worlds of the same coin.
    """
    scores, met, pairs = without_world_effects(found), found.met, found.pairs
    inside = np.where(met, scores, 0.0).sum(axis=0) / pairs
    outside = np.where(met, 0.0, scores).sum(axis=0) / pairs
    residuals = scores - np.where(met, inside, outside)
    own = 2 * pairs - 2
    variances = np.square(residuals).sum(axis=0) / own
    prior_degrees, prior_variance = variance_prior(variances, own)
    deviation = np.sqrt(shrunk(variances, own, prior_degrees, prior_variance))
    return Moderated(
        inside - outside, deviation, residuals, own, prior_degrees, prior_variance, pairs
    )


def without_world_effects(found: WorldScores) -> FloatArray:
    """Scores less what each world adds to all records: its model is more or less confident.

    Each record's mean over worlds, in which every record was met equally often, is taken out;
    a world's effect is then the mean of two medians, of the records that it met and of those that
    it did not. A median of all would follow the side that has more records where members stand
    far apart, and a mean would follow a few exposed ones.

    Returns:
        [worlds, records].
    """
    centred = found.scores - found.scores.mean(axis=0)
    sides = [_medians(centred, met) for met in (found.met, ~found.met)]
    # A world that met all clusters, or none, has one side only.
    sides = [np.where(np.isfinite(ours), ours, theirs) for ours, theirs in (sides, sides[::-1])]
    return np.asarray(centred - (sides[0] + sides[1])[:, None] / 2.0)


def _medians(scores: FloatArray, where: BoolArray) -> FloatArray:
    """Median of each row over its own columns, [rows]; infinite where it has none."""
    ordered = np.sort(np.where(where, scores, np.inf), axis=1)
    counts, rows = where.sum(axis=1), np.arange(len(scores))
    return np.asarray((ordered[rows, (counts - 1) // 2] + ordered[rows, counts // 2]) / 2.0)


def variance_prior(variances: FloatArray, degrees: int) -> tuple[float, float]:
    """Degrees of freedom and variance of the prior of records' variances (Smyth 2004, eq. 4-6).

    True variances are supposed to be prior_variance times an inverse chi-square over its degrees.
    The mean and the variance of the logarithms of the observed ones then give both.

    Args:
        variances: [n] of records, at least 0; some above 0.
        degrees: Degrees of freedom of each.

    Returns:
        The degrees, infinite where variances differ no more than by chance, and the variance.

    Raises:
        ValueError: More than half of the variances are 0.
    """
    middle = float(np.median(variances))
    if middle <= 0.0:
        raise ValueError("the scores of most records are the same in all worlds of the same coin")
    logs = np.log(np.maximum(variances, _SMALLEST_VARIANCE * middle))
    logs = logs - special.digamma(degrees / 2.0) + math.log(degrees / 2.0)
    excess = float(logs.var(ddof=1)) - float(special.polygamma(1, degrees / 2.0))
    if excess <= float(special.polygamma(1, _MOST_DEGREES / 2.0)):
        return math.inf, math.exp(float(logs.mean()))
    half = float(
        optimize.brentq(
            lambda x: float(special.polygamma(1, math.exp(x))) - excess,
            math.log(1e-3),
            math.log(_MOST_DEGREES / 2.0),
        )
    )
    half = math.exp(half)
    return 2.0 * half, math.exp(float(logs.mean()) + special.digamma(half) - math.log(half))


def shrunk(
    variances: FloatArray, degrees: float, prior_degrees: float, prior_variance: float
) -> FloatArray:
    """Posterior mean form of each variance: the two weighted by their degrees of freedom."""
    if math.isinf(prior_degrees):
        return np.full_like(variances, prior_variance)
    both = degrees * variances + prior_degrees * prior_variance
    return np.asarray(both / (degrees + prior_degrees))
