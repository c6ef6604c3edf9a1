"""Intervals for one proportion, and how many independent records a clustered sample is worth."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audits.statistics.clusters import critical_value
from audits.statistics.estimates import IntArray


def clopper_pearson(successes: float, trials: float, tail: float) -> tuple[float, float]:
    """Exact two-sided interval of a proportion.

    Quantiles of Beta(s, t - s + 1) and Beta(s + 1, t - s) (Clopper and Pearson 1934, Biometrika
    26). Counts need not be whole: with clusters they are effective counts (Korn and Graubard
    1998, Survey Methodology 24).

    Args:
        successes: Between 0 and `trials`.
        trials: Above 0.
        tail: Probability outside the interval, half on each side.

    Returns:
        Lower and upper end, in [0, 1].
    """
    failures = trials - successes
    lower = stats.beta.ppf(tail / 2.0, successes, failures + 1.0) if successes > 0.0 else 0.0
    upper = stats.beta.isf(tail / 2.0, successes + 1.0, failures) if failures > 0.0 else 1.0
    return float(lower), float(upper)


def wilson(share: float, trials: float, tail: float) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927, JASA 22).

    Args:
        share: Sample proportion, in [0, 1].
        trials: Above 0; an effective count with clusters.
        tail: Probability outside the interval.

    Returns:
        Lower and upper end, in [0, 1].
    """
    z = critical_value(tail)
    centre = share + z * z / (2.0 * trials)
    half = z * (share * (1.0 - share) / trials + z * z / (4.0 * trials * trials)) ** 0.5
    scale = 1.0 + z * z / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def fewest_independent(n: int, clusters: IntArray | None) -> float:
    """Number of independent records that n are worth where those of a cluster are all alike.

    (sum of sizes)^2 / (sum of squared sizes) (Kish 1965).

    Args:
        n: Records.
        clusters: [n] ids, or None for independent records.

    Returns:
        Between 1 and n; n without clusters.
    """
    if clusters is None:
        return float(n)
    sizes = np.unique(clusters, return_counts=True)[1].astype(np.float64)
    return n * n / float(np.sum(sizes**2))


def effective_size(hits: NDArray[np.bool_], clusters: IntArray | None) -> float:
    """Number of independent records whose share of hits would vary as much as this one's.

    p(1 - p) over the variance of p between clusters (Korn and Graubard 1998), never more than the
    records there are and never less than `fewest_independent`; the latter also where p is 0 or 1
    and the variance therefore says nothing.

    Args:
        hits: [n].
        clusters: [n] ids, or None for independent records.

    Returns:
        Between 1 and n; n without clusters.
    """
    n = hits.size
    if clusters is None:
        return float(n)
    _, index = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(index).astype(np.float64)
    alike = fewest_independent(n, clusters)
    share = float(np.mean(hits))
    if sizes.size == 1 or share in (0.0, 1.0):
        return alike
    totals = np.bincount(index, weights=hits.astype(np.float64) - share)
    variance = float(np.sum(totals**2)) * sizes.size / (sizes.size - 1) / (n * n)
    if variance == 0.0:
        return float(n)
    return float(np.clip(share * (1.0 - share) / variance, alike, n))
