"""Scores that are means over random draws: their reliability, and an AUROC that owns up to it."""

import numpy as np
from numpy.typing import ArrayLike

from audits.statistics.clusters import pooled_degrees
from audits.statistics.delong import logit_interval, placements, rank_statistics
from audits.statistics.estimates import Estimate, FloatArray, tail_probability


def reliability(draws: ArrayLike) -> float:
    """Reliability of records' mean scores over draws.

    With c the mean covariance between two draws and v the mean variance of a draw over records,
    r = c / v is the reliability of one draw, and K r / (1 + (K - 1) r) that of the mean of K
    (Spearman 1910, Brown 1910). This is Cronbach's alpha, the mean of the split-half coefficients
    over all splits (Cronbach 1951, Psychometrika 16), so that no split has to be chosen. A shift
    that a draw gives to all records alike does not count: it changes no AUROC.

    Args:
        draws: [B, K] one score per record and draw.

    Returns:
        At most 1; near 0, or below, where draws have nothing in common. NaN where it is not
        defined: fewer than two records, means that do not vary, or an infinite score.

    Raises:
        ValueError: Fewer than two draws, or NaN among the scores.

    >>> round(float(reliability([[1.0, 1.2], [2.0, 1.9], [3.0, 3.0]])), 4)
    0.9936
    """
    table = _as_draws(draws, "draws")
    k = table.shape[1]
    if len(table) < 2 or not np.isfinite(table).all():
        return float("nan")
    covariance = np.cov(table, rowvar=False)
    variances, total = float(np.trace(covariance)), float(covariance.sum())
    if total <= 1e-14 * variances:
        return float("nan")
    return k / (k - 1) * (1.0 - variances / total)


def auroc_over_draws(
    members: ArrayLike,
    nonmembers: ArrayLike,
    level: float = 0.95,
    *,
    member_clusters: ArrayLike | None = None,
    nonmember_clusters: ArrayLike | None = None,
) -> Estimate:
    """AUROC of scores that are means over draws shared by all records; never flipped.

    A draw shifts members against non-members by an amount that no number of records removes, so
    the variance is the sum of two: over clusters of records with the draws fixed (Obuchowski, as in
    `ranking.auroc`), and over draws with the records fixed, by the jackknife that leaves one draw
    out (Efron and Stein 1981, The Annals of Statistics 9). The interval is on the logit scale with
    Student's quantile at the degrees of freedom of the sum (Satterthwaite 1946): those of the
    clusters, and K - 1 for the draws.

    Args:
        members: [n, K] scores, higher = more likely a member.
        nonmembers: [m, K] scores under the same K draws.
        level: Confidence level.
        member_clusters: [n] integer ids, or None for independent records.
        nonmember_clusters: [m] integer ids; the same id on both sides is the same cluster.

    Returns:
        AUROC of the means in [0, 1] with its interval.

    Raises:
        ValueError: No records, NaN, fewer than two draws, unequal numbers of draws, ids that do not
            match, or a level outside (0, 1).
    """
    tail = tail_probability(level)
    x, y = _as_draws(members, "members"), _as_draws(nonmembers, "nonmembers")
    if x.shape[1] != y.shape[1] or not len(x) or not len(y):
        raise ValueError(f"members {x.shape} and nonmembers {y.shape}: [n, K] and [m, K] expected")
    ours, theirs = (side.mean(axis=1)[None] for side in (x, y))
    ranks = rank_statistics(ours, theirs, member_clusters, nonmember_clusters)
    value, k = float(ranks.aurocs[0]), x.shape[1]
    variances = np.array([ranks.covariance[0, 0], _jackknife_variance(x, y)])
    degrees = float(pooled_degrees(variances, np.array([ranks.degrees[0], k - 1.0])))
    lower, upper = logit_interval(value, float(variances.sum()), ranks.units, tail, degrees)
    return Estimate(value, lower, upper, len(x), len(y))


def _jackknife_variance(members: FloatArray, nonmembers: FloatArray) -> float:
    """Variance of the AUROC over draws, (K - 1)/K sum_k (A_(k) - mean A_(.))^2."""
    k = members.shape[1]
    without = [
        float(placements(_mean_without(members, draw), _mean_without(nonmembers, draw)).mean())
        for draw in range(k)
    ]
    return (k - 1) / k * float(np.square(np.array(without) - np.mean(without)).sum())


def _mean_without(draws: FloatArray, left_out: int) -> FloatArray:
    return np.delete(draws, left_out, axis=1).mean(axis=1)


def _as_draws(draws: ArrayLike, name: str) -> FloatArray:
    table = np.asarray(draws, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] < 2:
        raise ValueError(f"{name}: expected [records, draws >= 2], found shape {table.shape}")
    if np.isnan(table).any():
        raise ValueError(f"{name}: {int(np.isnan(table).sum())} scores are NaN")
    return table
