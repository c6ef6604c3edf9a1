"""Scores of the same records under models of several worlds, half of which met each record."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audits.statistics.estimates import FloatArray, IntArray

FEWEST_PAIRS = 2
FEWEST_CLUSTERS = 10

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class WorldScores:
    """Scores of one population under the models of an even number of worlds.

    Worlds come in complementary pairs: what world 2j met, world 2j + 1 did not. So each record is
    met in exactly half of the worlds, and in half of those of each pair. Records of a cluster have
    one coin.

    Attributes:
        scores: [worlds, records] float64, higher = more likely a member.
        met: [worlds, records] bool; for records that no world trains on, placebo coins.
        clusters: [records] integers, the cluster of near-duplicates, or the subject.

    Raises:
        ValueError: Shapes that do not match, a score that is not finite, fewer than two pairs of
            worlds, a pair that is not complementary, records of a cluster with different coins, or
            fewer than ten clusters.
    """

    scores: FloatArray
    met: BoolArray
    clusters: IntArray

    def __post_init__(self) -> None:
        worlds, shape = len(self.scores), self.scores.shape
        if self.scores.ndim != 2 or self.met.shape != shape or self.clusters.shape != shape[1:]:
            raise ValueError(
                f"expected [worlds, records] scores and coins and [records] clusters, found "
                f"{shape}, {self.met.shape} and {self.clusters.shape}"
            )
        if not np.isfinite(self.scores).all():
            raise ValueError(f"{int((~np.isfinite(self.scores)).sum())} scores are not finite")
        if worlds % 2 or worlds < 2 * FEWEST_PAIRS:
            raise ValueError(
                f"single records are judged by complementary pairs of worlds, {FEWEST_PAIRS} pairs "
                f"or more: found {worlds} worlds"
            )
        if (self.met[::2] == self.met[1::2]).any():
            raise ValueError("a pair of worlds is not complementary: a record was met in both")
        _, first, of = np.unique(self.clusters, return_index=True, return_inverse=True)
        if len(first) < FEWEST_CLUSTERS:
            raise ValueError(
                f"a record is judged against others: {FEWEST_CLUSTERS} clusters or more expected, "
                f"found {len(first)}"
            )
        if (self.met != self.met[:, first[of]]).any():
            raise ValueError("records of one cluster have different coins")

    @property
    def pairs(self) -> int:
        """Number of complementary pairs of worlds."""
        return len(self.scores) // 2

    def half(self, which: int) -> "WorldScores":
        """Every other pair of worlds, whole: the even pairs for 0, the odd ones for 1.

        Raises:
            ValueError: A half that has fewer than two pairs.
        """
        chosen = np.repeat(np.arange(self.pairs) % 2 == which, 2)
        return replace(self, scores=self.scores[chosen], met=self.met[chosen])

    def by_cluster(self) -> "WorldScores":
        """The mean score of each cluster, in the order of `numpy.unique`; one column per cluster.

        Records of a cluster share their coin, so that worlds tell clusters apart and no records
        within one.
        """
        ids, first, of = np.unique(self.clusters, return_index=True, return_inverse=True)
        sums = np.stack([np.bincount(of, weights=row) for row in self.scores])
        return replace(self, scores=sums / np.bincount(of), met=self.met[:, first], clusters=ids)
