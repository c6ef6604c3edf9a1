"""Which records can be named: those whose exposure no luck of the coins explains."""

import numpy as np

from audits.statistics.multiplicity import benjamini_hochberg
from audits.tail.moderation import moderated
from audits.tail.placebo import placebo_statistics
from audits.tail.world_scores import BoolArray, WorldScores


def named_records(
    found: WorldScores,
    null: WorldScores,
    *,
    false_discovery_rate: float = 0.05,
    seed: int = 0,
) -> BoolArray:
    """Names the records that make a difference, with a bounded share of false names.

    Clusters are judged, by their mean scores, and a cluster's records are named together: they
    share a coin. The p-value of a cluster is the share of `placebo_statistics` that its moderated
    statistic does not exceed, and Benjamini and Hochberg's step-up holds the expected share of
    clusters without any effect among the named at `false_discovery_rate`. It does not hold it for
    any one name, nor within a group picked afterwards.

    Args:
        found: The records of the pool.
        null: Records that no world trained on, with placebo coins, under the same worlds.
        false_discovery_rate: In (0, 1).
        seed: Key of the placebo throws.

    Returns:
        [records] bool.

    Raises:
        ValueError: Different numbers of worlds, a rate outside (0, 1), or scores that do not vary.
    """
    if not 0.0 < false_discovery_rate < 1.0:
        raise ValueError(f"false_discovery_rate: expected in (0, 1), found {false_discovery_rate}")
    if found.pairs != null.pairs:
        raise ValueError(f"{found.pairs} pairs of worlds, but {null.pairs} of the placebo")
    statistic = moderated(found.by_cluster()).statistic
    placebo = np.sort(placebo_statistics(null, seed))
    at_least = placebo.size - np.searchsorted(placebo, statistic, side="left")
    adjusted = benjamini_hochberg((1.0 + at_least) / (1.0 + placebo.size))
    _, of = np.unique(found.clusters, return_inverse=True)
    return np.asarray((adjusted <= false_discovery_rate)[of])
