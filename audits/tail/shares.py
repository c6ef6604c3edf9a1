"""Share of the records that an attacker finds with some certainty, while hardly ever wrong."""

import math

import numpy as np

from audits.statistics.clusters import critical_value
from audits.statistics.estimates import Estimate, tail_probability
from audits.tail.deconvolution import Shares, shares
from audits.tail.moderation import moderated
from audits.tail.noise import pooled_noise, separation_found
from audits.tail.world_scores import WorldScores

_THRESHOLDS = 5


def share_found(
    found: WorldScores,
    null: WorldScores,
    *,
    tpr: float = 0.1,
    fpr: float = 0.001,
    level: float = 0.95,
) -> Estimate:
    """Share of the records whose own attack reaches this TPR at this FPR.

    A record's attack compares a model's score with the scores of models that did not meet the
    record. Not the share of records that seem to reach it: out of 16 worlds 7% of records do whose
    true separation, one standard deviation, is far from it. The share is that of true
    separations (`deconvolution`) above the one that it takes with the noise as it is (`noise`).
    The interval holds the errors of both: a share is inside where its likelihood ratio and the
    squared error of some threshold, in standard errors, are together within chi-square's quantile
    for one degree. `benchmarks/results/tail.md` shows how often it covers.

    Clusters count once each, with their mean scores.

    Args:
        found: The records of the pool.
        null: Records that no world trained on, under the same worlds.
        tpr: True-positive rate that counts as found, above `fpr` and below 0.5.
        fpr: False-positive rate.
        level: Confidence level.

    Returns:
        The share with its interval; `n_members` are the clusters of the pool, `n_nonmembers` those
        never seen.

    Raises:
        ValueError: Rates out of order, a level outside (0, 1), or scores that do not vary.
    """
    if not 0.0 < fpr < tpr < 0.5:
        raise ValueError(f"expected 0 < fpr < tpr < 0.5, found {fpr} and {tpr}")
    reach = critical_value(tail_probability(level))
    pool, never = found.by_cluster(), null.by_cluster()
    fit, noise = moderated(pool), pooled_noise(pool, never)

    def likelihood(errors: float) -> Shares:
        cut = separation_found(noise, tpr, fpr, errors)
        return shares(fit.statistic, fit.degrees, cut * math.sqrt(fit.pairs / 2.0))

    value = likelihood(0.0).most_likely[0]
    ends = {0.0: [value], 1.0: [value]}
    for errors in np.linspace(0.0, reach, _THRESHOLDS):
        drop = (reach**2 - errors**2) / 2.0
        ends[0.0].append(likelihood(errors).bound(0.0, drop))
        ends[1.0].append(likelihood(-errors).bound(1.0, drop))
    n, m = pool.met.shape[1], never.met.shape[1]
    return Estimate(value, min(ends[0.0]), max(ends[1.0]), n, m)
