"""Interval of a mean of numbers that cannot leave a known range, however rare large ones are."""

import math

import numpy as np
from scipy import optimize

from audits.statistics.clusters import critical_value, degrees_of_freedom
from audits.statistics.estimates import FloatArray, IntArray


def bounded_mean_interval(
    values: FloatArray,
    weights: FloatArray,
    index: IntArray,
    low: float,
    high: float,
    tail: float,
) -> tuple[float, float]:
    """Two-sided interval of a weighted mean over clusters of records, inside [low, high].

    Gaffke 2005 (Mathematical Methods of Statistics 14; also Learned-Miller and Thomas 2019,
    arXiv 1905.06208): the sample gets one more unit at the far end of the range, and the bound is
    a quantile of the mean under random weights, which are uniform on the simplex. For values of 0
    and 1 it is Clopper and Pearson's interval; for many values of moderate spread it is near
    Student's t. It has a width where all values are alike, and never leaves the range. That it
    covers for every distribution is a conjecture which no simulation has contradicted.

    The unit is the cluster, and the one more is as large as the mean cluster. Where clusters differ
    in size, the tail shrinks as Student's t with `clusters.degrees_of_freedom` is wider than with
    G - 1.

    Args:
        values: [n] in [low, high].
        weights: [n] at least 0, not all 0.
        index: [n] cluster of each record, 0 to G - 1; two clusters of some weight at least.
        low: Lower end of the range.
        high: Upper end of the range.
        tail: Probability outside the interval, in (0, 1).

    Returns:
        Lower and upper bound.
    """
    sizes = np.bincount(index, weights=weights).astype(np.float64)
    filled = sizes > 0.0
    degrees = float(degrees_of_freedom(values[None], weights, index)[0])
    reach = critical_value(tail, degrees) / critical_value(tail, np.count_nonzero(filled) - 1.0)
    distance = reach * critical_value(tail)
    gaps = [
        np.bincount(index, weights=weights * one).astype(np.float64)
        for one in (values - low, high - values)
    ]
    above, below = (_least_mean(one[filled], sizes[filled], distance) for one in gaps)
    return low + above, high - below


def _least_mean(totals: FloatArray, sizes: FloatArray, distance: float) -> float:
    """Lower bound of a mean of numbers of at least 0, with one more unit at 0.

    Args:
        totals: [G] sum of the numbers in each cluster.
        sizes: [G] weight of each cluster, above 0.
        distance: Standard normal quantile of the probability that random weights give less, above
            0 for one below a half.
    """
    extra = float(sizes.mean())
    pairs, counts = np.unique(totals + 1j * sizes, return_counts=True)
    tops, bottoms = np.append(pairs.real, 0.0), np.append(pairs.imag, extra)
    counts = np.append(counts, 1)
    mass = float(counts @ bottoms)
    mean = float(counts @ tops) / mass
    if mean == 0.0:
        return 0.0
    error = float(counts @ np.square(tops / mean - bottoms)) ** 0.5 / mass

    def beyond(log_share: float) -> float:
        gains = math.exp(log_share) * bottoms - tops / mean
        return _normal_distance(gains, counts) - distance

    # The bound lies a few standard errors below the mean; a mean of 0 would be infinitely many.
    nearest, farthest = math.log(max(1.0 - 0.01 * distance * error, 0.5)), -1.0
    while beyond(farthest) < 0.0:
        farthest *= 2.0
    return mean * math.exp(float(optimize.brentq(beyond, farthest, nearest, xtol=1e-8)))


def _normal_distance(gains: FloatArray, counts: IntArray) -> float:
    """Standard normal quantile of the probability that sum_g E_g gains_g stays below 0.

    E_g are independent standard exponentials: divided by their sum they are uniform on the
    simplex. Saddlepoint approximation in the form of Barndorff-Nielsen 1986 (Biometrika 73); the
    bounds that follow from it are within 1% of the exact ones, and 4% for one hit in two.

    Args:
        gains: [U] distinct values, of which some are above 0; their sum is below 0.
        counts: [U] how often each occurs.
    """
    gains = gains / gains.max()

    def slope(point: float) -> float:
        return float(counts @ (gains / (1.0 - point * gains)))

    saddle = optimize.brentq(slope, 0.0, 1.0 - 1e-15, xtol=1e-15, rtol=1e-11)
    left = 1.0 - saddle * gains
    w = (2.0 * float(counts @ np.log(left))) ** 0.5
    u = saddle * float(counts @ np.square(gains / left)) ** 0.5
    return w + math.log(u / w) / w
