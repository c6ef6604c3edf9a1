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
    have served: all throws of each cluster's pairs up to eight of them, once each, and 256 random
    ones of more. They differ from Student's t where scores are not normal.

    Args:
        null: Never-seen records.
        seed: Key of the throws.

    Returns:
        [throws clusters] the statistics of all throws.
    """
    units = null.by_cluster()
    rng, pairs, clusters = np.random.default_rng(seed), units.pairs, units.met.shape[1]
    if 2**pairs <= _THROWS:
        # A cluster has its own order of throws: worlds have both sides in each.
        throws = np.arange(2**pairs)[:, None] ^ rng.integers(2**pairs, size=clusters)
        turned = throws[:, None] >> np.arange(pairs)[:, None] & 1
    else:
        turned = rng.integers(2, size=(_THROWS, pairs, clusters))
    coins = (units.met ^ np.repeat(one.astype(bool), 2, axis=0) for one in turned)
    return np.concatenate([moderated(replace(units, met=met)).statistic for met in coins])
