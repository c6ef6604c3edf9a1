"""Share of the records that an attacker finds with some certainty, while hardly ever wrong."""

import math

from audits.statistics.estimates import Estimate, tail_probability
from audits.tail.deconvolution import shares
from audits.tail.moderation import moderated
from audits.tail.noise import pooled_noise, separation_found
from audits.tail.world_scores import WorldScores


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
    record. Not the share of records that seem to reach it: from 16 worlds 7.7% of records do whose
    true separation, one standard deviation, is far from it. The share is that of true separations
    (`deconvolution`) above the one that it takes with the noise as it is (`noise`). The interval
    holds the error of both.

    Clusters count once each, with their mean scores.

    Args:
        found: The records of the pool.
        null: Records that no world trained on, under the same worlds.
        tpr: True-positive rate that counts as found, above `fpr`.
        fpr: False-positive rate.
        level: Confidence level.

    Returns:
        The share with its interval; `n_members` are the clusters of the pool, `n_nonmembers` those
        never seen.

    Raises:
        ValueError: Rates out of order, a level outside (0, 1), or scores that do not vary.
    """
    if not 0.0 < fpr < tpr < 1.0:
        raise ValueError(f"expected 0 < fpr < tpr < 1, found {fpr} and {tpr}")
    tail = tail_probability(level)
    pool, never = found.by_cluster(), null.by_cluster()
    fit = moderated(pool)
    cuts = separation_found(pooled_noise(pool, never), tpr, fpr)
    middle, low, high = (
        shares(fit.statistic, fit.degrees, cut * math.sqrt(fit.pairs / 2.0)) for cut in cuts
    )
    value = middle.most_likely()[0]
    lower, upper = min(value, high.interval(tail)[0]), max(value, low.interval(tail)[1])
    return Estimate(value, lower, upper, pool.met.shape[1], never.met.shape[1])
