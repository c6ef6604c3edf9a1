"""The common result type of every statistic, and the checks on scores that all of them share."""

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Clusters(TypedDict):
    """Clusters of both sides as the estimators take them: ``auroc(x, y, **Clusters(...))``."""

    member_clusters: IntArray
    nonmember_clusters: IntArray


@dataclass(frozen=True)
class Estimate:
    """A figure, its two-sided interval and the records behind it.

    Attributes:
        value: The point estimate.
        lower: Lower end of the interval, at the level asked for.
        upper: Upper end of the interval.
        n_members: Members that entered the estimate.
        n_nonmembers: Non-members that entered the estimate.
    """

    value: float
    lower: float
    upper: float
    n_members: int
    n_nonmembers: int


def as_scores(scores: ArrayLike, name: str) -> FloatArray:
    """Attack scores as a float64 vector.

    Args:
        scores: [n] numbers, higher = more likely a member; an array, a CPU tensor or a sequence.
            Infinite scores keep their place in the order.
        name: What to call the scores in an error.

    Returns:
        [n] float64.

    Raises:
        ValueError: Not one-dimensional, empty, or a NaN among them.
    """
    vector = np.asarray(scores, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"{name}: expected a vector of scores, found shape {vector.shape}")
    if vector.size == 0:
        raise ValueError(f"{name}: no scores")
    missing = int(np.isnan(vector).sum())
    if missing:
        raise ValueError(f"{name}: {missing} of {vector.size} scores are NaN")
    return vector


def as_clusters(clusters: ArrayLike | None, n: int, name: str) -> IntArray | None:
    """Cluster ids as an int64 vector, or None where records are their own clusters.

    Args:
        clusters: [n] integers, or None.
        n: Number of scores that the ids belong to.
        name: What to call the ids in an error.

    Returns:
        [n] int64, or None.

    Raises:
        ValueError: Not one integer per score.
    """
    if clusters is None:
        return None
    ids = np.asarray(clusters)
    if ids.shape != (n,) or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"{name}: expected {n} integers, found {ids.dtype} of shape {ids.shape}")
    return ids.astype(np.int64)


def as_weights(weights: ArrayLike | None, n: int, name: str) -> FloatArray | None:
    """How much each record counts, as a float64 vector, or None where all count alike.

    Args:
        weights: [n] finite numbers of at least 0, one of them above 0, or None.
        n: Number of scores that the weights belong to.
        name: What to call the weights in an error.

    Returns:
        [n] float64, or None.

    Raises:
        ValueError: Not one such number per score.
    """
    if weights is None:
        return None
    vector = np.asarray(weights, dtype=np.float64)
    if vector.shape != (n,) or not (np.isfinite(vector).all() and vector.min() >= 0.0):
        raise ValueError(f"{name}: expected {n} finite numbers of at least 0")
    if not vector.any():
        raise ValueError(f"{name}: no record counts")
    return vector


def tail_probability(level: float) -> float:
    """The probability left outside a two-sided interval of this level.

    Args:
        level: Confidence level, strictly between 0 and 1.

    Returns:
        1 - level.

    Raises:
        ValueError: The level is not strictly between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level: expected a number strictly between 0 and 1, found {level}")
    return 1.0 - level
