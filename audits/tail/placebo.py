"""Statistics of records that no world trained on, under placebo coins thrown over and over."""

from dataclasses import replace

import numpy as np

from audits.statistics.estimates import FloatArray
from audits.tail.moderation import moderated
from audits.tail.world_scores import WorldScores

_THROWS = 256


def placebo_statistics(null: WorldScores, seed: int = 0) -> FloatArray:
    """Moderated statistics of clusters whose coins nothing has read.

    Nothing depends on these coins, so that any other throw that keeps pairs complementary would
    have served: the coins as they are and 255 more throws, each cluster's pairs turned
    independently. They differ from Student's t where scores are not normal.

    Args:
        null: Never-seen records.
        seed: Key of the throws.

    Returns:
        [256 clusters] the statistics of all throws.
    """
    units = null.by_cluster()
    rng = np.random.default_rng(seed)
    shape = (_THROWS, units.pairs, units.met.shape[1])
    turned = np.repeat(rng.random(shape) < 0.5, 2, axis=1)
    turned[0] = False
    throws = (replace(units, met=units.met ^ one) for one in turned)
    return np.concatenate([moderated(one).statistic for one in throws])
