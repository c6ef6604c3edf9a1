"""Scores of planted worlds: records whose true separation is known."""

import numpy as np
from numpy.typing import ArrayLike

from audits.tail.world_scores import WorldScores


def planted(
    rng: np.random.Generator,
    records: int,
    worlds: int,
    separation: ArrayLike = 0.0,
    *,
    degrees: float = np.inf,
    duplicates: int = 1,
) -> WorldScores:
    """Scores of records of different level and spread, in worlds of different confidence.

    Args:
        rng: Source of all draws.
        records: Clusters.
        worlds: An even number.
        separation: True separation of each cluster, in its own standard deviations.
        degrees: Of Student's t that the noise has, scaled to variance 1; normal where infinite.
        duplicates: Records of each cluster, which share coin and three quarters of the variance.
    """
    met = np.repeat(rng.random((worlds // 2, records)) < 0.5, 2, axis=0)
    met[1::2] ^= True
    clusters = np.repeat(np.arange(records), duplicates)
    shape = (worlds, records)
    noise = rng.normal(size=shape)
    if np.isfinite(degrees):
        noise = rng.standard_t(degrees, size=shape) * np.sqrt((degrees - 2.0) / degrees)
    spread = np.exp(0.4 * rng.normal(size=records))
    scores = spread * (noise + met * np.asarray(separation))
    if duplicates > 1:
        own = rng.normal(size=(worlds, clusters.size)) * np.sqrt(1.0 / 3.0)
        scores = scores[:, clusters] + spread[clusters] * own
    scores = scores + 3.0 * rng.normal(size=clusters.size) + rng.normal(size=(worlds, 1))
    return WorldScores(scores, met[:, clusters], 7 * clusters + 3)
