"""Leakage of a distilled model as a share of what a model of its size could leak at all."""

import numpy as np
from numpy.typing import ArrayLike

from audits.statistics.delong import rank_statistics
from audits.statistics.estimates import as_scores, tail_probability
from audits.statistics.means import UtilityEstimate
from audits.statistics.recovered_variance import Term, ratio_bounds


def relative_leakage(
    members: tuple[ArrayLike, ArrayLike],
    nonmembers: tuple[ArrayLike, ArrayLike],
    level: float = 0.95,
    *,
    member_clusters: ArrayLike | None = None,
    nonmember_clusters: ArrayLike | None = None,
) -> UtilityEstimate:
    """(AUROC of a student - 1/2) / (AUROC of the anchor - 1/2), on the same records.

    The anchor is a model of the student's size that was fine-tuned on the private records
    themselves. 0: the student gives nothing away; 1: as much as the anchor.
    Interval: those of the two AUROCs on the logit scale, combined by
    `recovered_variance.ratio_bounds` with the correlation from DeLong's covariance. Fieller's on
    DeLong's variances, which have no width at an AUROC of 1, covers .84 at .99 / .999 with 50
    records a side.

    Args:
        members: [n] scores of the private records under the student, and under the anchor.
        nonmembers: [m] scores of held-out records under both.
        level: Confidence level.
        member_clusters: [n] ids of near-duplicate clusters, or None for independent records.
        nonmember_clusters: [m] ids; the same id on both sides is the same cluster.

    Returns:
        The ratio and its bounds; no bounds where the anchor is not told from 1/2, since any ratio
        then fits the data.

    Raises:
        ValueError: Unequal numbers of scores, no records, NaN, an anchor whose AUROC is 1/2, or a
            level outside (0, 1).
    """
    x = np.stack([as_scores(side, "members") for side in members])
    y = np.stack([as_scores(side, "nonmembers") for side in nonmembers])
    ranks = rank_statistics(x, y, member_clusters, nonmember_clusters)
    first, second = (
        Term(*(end - 0.5 for end in ranks.term(model, tail_probability(level)))) for model in (0, 1)
    )
    if second.value == 0.0:
        raise ValueError("the anchor's AUROC is 1/2: there is nothing to measure a share of")
    lower, upper = ratio_bounds(first, second, ranks.correlation) or (None, None)
    return UtilityEstimate(first.value / second.value, lower, upper, x.shape[1] + y.shape[1])
