"""Intervals that hold all at once: what a figure that was picked among several must be given."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from audits.statistics.estimates import tail_probability

_DRAWS = 100_000


def bonferroni_level(k: int, level: float = 0.95) -> float:
    """Level of each of K intervals that all hold at once with a probability of `level` or more.

    Whatever the figures have to do with each other: a handful of replicates cannot tell.

    Args:
        k: Number of intervals.
        level: Of all together.

    Raises:
        ValueError: No interval, or a level outside (0, 1).
    """
    if k < 1:
        raise ValueError(f"k: expected one interval or more, found {k}")
    return 1.0 - tail_probability(level) / k


def simultaneous_level(correlation: ArrayLike, level: float = 0.95, seed: int = 0) -> float:
    """Level of each of K normal intervals that all hold at once with a probability of `level`.

    The quantile of max |Z| over normal Z with this correlation (max-T; Hothorn, Bretz and Westfall
    2008, Biometrical Journal 50), by draws: between `level`, where all are one figure, and nearly
    :func:`bonferroni_level`, where they have nothing to do with each other.

    Args:
        correlation: [K, K] of the estimates; a figure without variance has NaN off its diagonal and
            counts as independent.
        level: Of all together.
        seed: Key of the draws.

    Raises:
        ValueError: Not a square matrix, or a level outside (0, 1).
    """
    matrix = np.atleast_2d(np.asarray(correlation, dtype=np.float64))
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"correlation: expected a square matrix, found shape {matrix.shape}")
    tail = tail_probability(level)
    matrix = np.nan_to_num(matrix)
    np.fill_diagonal(matrix, 1.0)
    values, vectors = np.linalg.eigh(matrix)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    normal = np.random.default_rng(seed).normal(size=(_DRAWS, len(matrix)))
    largest = np.abs(normal @ root.T).max(axis=1)
    return 1.0 - 2.0 * float(stats.norm.sf(np.quantile(largest, 1.0 - tail)))
