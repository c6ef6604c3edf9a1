"""The most exposed records, chosen on one half of the worlds and measured on the other."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from audits.statistics.estimates import FloatArray, IntArray
from audits.statistics.means import UtilityEstimate, ratio_interval
from audits.tail.moderation import moderated
from audits.tail.separations import separations
from audits.tail.world_scores import BoolArray, WorldScores

_FEWEST_PAIRS = 4


@dataclass(frozen=True)
class MostExposed:
    """Records that came out on top in one half of the worlds, and what the other half says.

    Attributes:
        chosen: [2, records] chosen on the even pairs of worlds, and on the odd ones.
        measured: [2, records] separation on the other half than that of `chosen`'s row.
        clusters: [records].
    """

    chosen: BoolArray
    measured: FloatArray
    clusters: IntArray

    def separation(self, where: ArrayLike = True, level: float = 0.95) -> UtilityEstimate | None:
        """Mean separation of the chosen records, on worlds that had no part in the choice.

        Mean of both ways round, each choice of a record counted once. The interval is Student's t
        over clusters, of these chosen records.

        Args:
            where: [records] bool, the records of a task or a subject; True for all.
            level: Confidence level.

        Returns:
            The mean, in standard deviations between worlds, its interval and the number of records
            that were chosen at least once; None where none was.
        """
        counted = self.chosen & np.asarray(where, dtype=bool)
        rows = counted.any(axis=0)
        if not rows.any():
            return None
        times = counted.sum(axis=0)[rows].astype(np.float64)
        sums = np.where(counted, self.measured, 0.0).sum(axis=0)[rows]
        return ratio_interval(sums, times, self.clusters[rows].tolist(), level)


def most_exposed(found: WorldScores, share: float = 0.05) -> MostExposed:
    """Chooses the most exposed share of clusters on each half and measures it on the other.

    Whatever comes out on top did so by exposure and by luck; luck does not come twice. Clusters
    are ranked by the moderated statistic of their mean scores.

    Args:
        found: Of one population.
        share: Of clusters, in (0, 1]; rounded up to a whole number.

    Raises:
        ValueError: Fewer than four pairs of worlds, or a share outside (0, 1].
    """
    if found.pairs < _FEWEST_PAIRS:
        raise ValueError(
            f"both halves need two pairs of worlds: {2 * _FEWEST_PAIRS} worlds or more expected, "
            f"found {2 * found.pairs}"
        )
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share: expected a number in (0, 1], found {share}")
    halves = [found.half(which) for which in (0, 1)]
    chosen = np.stack([_on_top(half, share) for half in halves])
    measured = np.stack([separations(half).value for half in reversed(halves)])
    return MostExposed(chosen, measured, found.clusters)


def _on_top(half: WorldScores, share: float) -> BoolArray:
    statistic = moderated(half.by_cluster()).statistic
    n = math.ceil(share * statistic.size - 1e-9)
    top = np.zeros(statistic.size, dtype=bool)
    top[np.argsort(-statistic, kind="stable")[:n]] = True
    _, of = np.unique(half.clusters, return_inverse=True)
    return np.asarray(top[of])
