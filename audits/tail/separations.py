"""How far apart the worlds that met a record and those that did not are, for each record."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from audits.statistics.estimates import FloatArray, tail_probability
from audits.tail.moderation import moderated
from audits.tail.world_scores import WorldScores


@dataclass(frozen=True)
class Separations:
    """Standardised separation of each record, pointwise.

    Attributes:
        value: [records] mean score with the record minus without, in standard deviations between
            worlds; unbiased.
        lower: [records] lower end of the interval.
        upper: [records] upper end.
        p_value: [records] of "the record makes no difference", one-sided; of normal noise.
    """

    value: FloatArray
    lower: FloatArray
    upper: FloatArray
    p_value: FloatArray


def separations(found: WorldScores, level: float = 0.95) -> Separations:
    """Separation of every record with its interval.

    The moderated statistic is Student's t around a noncentrality of separation times
    sqrt(pairs / 2), with the degrees of freedom of the moderated variance; the interval inverts its
    distribution, and the value is free of the bias of dividing by an estimated deviation (Hedges
    1981, Journal of Educational Statistics 6). The intervals are of single records taken at
    random, not of those that came out on top: `most_exposed` is for these.

    Args:
        found: Of one population.
        level: Confidence level of each interval.

    Raises:
        ValueError: A level outside (0, 1), or scores that do not vary.
    """
    tail = tail_probability(level)
    fit = moderated(found)
    t, degrees = fit.statistic, fit.degrees
    unit = math.sqrt(2.0 / fit.pairs)
    lower, upper = (special.nctdtrinc(degrees, p, t) * unit for p in (1.0 - tail / 2.0, tail / 2.0))
    return Separations(
        t * unit * unbiasing(degrees), lower, upper, np.asarray(special.stdtr(degrees, -t))
    )


def unbiasing(degrees: float) -> float:
    """What a ratio to an estimated deviation is multiplied by to be unbiased, at most 1."""
    half = degrees / 2.0
    return math.exp(special.gammaln(half) - special.gammaln(half - 0.5)) / math.sqrt(half)
