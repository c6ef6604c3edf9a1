"""Student's t over clusters of records: how many degrees of freedom clusters of any sizes leave."""

import math

import numpy as np
from scipy import special

from audits.statistics.estimates import FloatArray, IntArray


def critical_value(tail: float, degrees: float = math.inf) -> float:
    """Standard errors on each side of an estimate that leave out `tail`, half of it on each side.

    Args:
        tail: Probability outside the interval, in (0, 1); 0.05 for 95%.
        degrees: Degrees of freedom of the standard error; the normal distribution's where infinite.

    Returns:
        Quantile of Student's t, at least 0.

    >>> round(critical_value(0.05), 4), round(critical_value(0.05, 4), 4)
    (1.96, 2.7764)
    """
    return -float(special.stdtrit(degrees, tail / 2.0))


def degrees_of_freedom(values: FloatArray, weights: FloatArray, index: IntArray) -> FloatArray:
    """Degrees of freedom of the variance of K weighted means, from squares summed over clusters.

    With p_g the share of the weight in cluster g, and independent clusters whose totals have the
    variances d_g, their residual totals have the covariance C = (I - p 1')D(I - 1 p'), and the sum
    of their squares has trace(C)^2 / trace(C^2) degrees (Satterthwaite 1946, Biometrics Bulletin 2;
    for variances of this kind Bell and McCaffrey 2002, Survey Methodology 28). G clusters of equal
    size leave G - 1; a few that hold most of the records leave few, however many others there are.

    d_g is that of records of equal variance which correlate within clusters by the analysis of
    variance's estimate (Donner 1986, International Statistical Review 54).

    Args:
        values: [K, n] each record's value, or its residual.
        weights: [n] at least 0, not all 0.
        index: [n] cluster of each record, 0 to G - 1.

    Returns:
        [K], between 1 and G - 1 but for rounding; 0 for a single cluster, which has no variance.
    """
    share = weights / weights.sum()
    p = np.bincount(index, weights=share)  # [G]
    if np.count_nonzero(p) < 2:
        return np.zeros(len(values))
    alone = np.bincount(index, weights=share**2)
    counted = weights > 0.0
    alike = _intraclass_correlation(values[:, counted], index[counted])[:, None]
    d = (1.0 - alike) * alone + alike * p**2  # [K, G]
    total, dp, dd, pp = d.sum(axis=1), d @ p, np.square(d).sum(axis=1), float(p @ p)
    trace = total - 2.0 * dp + pp * total
    squared = (
        dd
        - 4.0 * np.square(d) @ p
        + 2.0 * total * (d @ p**2)
        + 2.0 * dp**2
        + 2.0 * dd * pp
        - 4.0 * total * dp * pp
        + (total * pp) ** 2
    )
    return np.asarray(trace**2 / squared)


def _intraclass_correlation(values: FloatArray, index: IntArray) -> FloatArray:
    """Correlation of two records of a cluster, [K] in [0, 1]; 1 where nothing tells."""
    _, index, counts = np.unique(index, return_inverse=True, return_counts=True)
    n, groups = index.size, counts.size
    if groups in (1, n):
        return np.ones(len(values))
    centred = values - values.mean(axis=1, keepdims=True)
    sums = np.stack([np.bincount(index, weights=row, minlength=groups) for row in centred])
    between = (sums**2 / counts).sum(axis=1)
    within = np.maximum(0.0, np.square(centred).sum(axis=1) - between) / (n - groups)
    between = between / (groups - 1)
    typical = (n - float(np.square(counts).sum()) / n) / (groups - 1)
    spread = between + (typical - 1.0) * within
    found = np.divide(between - within, spread, out=np.ones_like(spread), where=spread > 0.0)
    return np.clip(found, 0.0, 1.0)


def pooled_degrees(variances: FloatArray, degrees: FloatArray) -> FloatArray:
    """Degrees of freedom of a sum of independent variances (Satterthwaite 1946; Welch 1947).

    Args:
        variances: [S, ...] the terms, at least 0.
        degrees: [S, ...] their degrees of freedom.

    Returns:
        [...]; infinite where all terms are 0.
    """
    total = variances.sum(axis=0)
    known = variances > 0.0
    terms = np.divide(variances**2, degrees, out=np.zeros_like(total + variances), where=known)
    spread = terms.sum(axis=0)
    return np.divide(total**2, spread, out=np.full_like(spread, math.inf), where=spread > 0.0)
