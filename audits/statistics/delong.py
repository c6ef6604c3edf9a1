"""DeLong's covariance of AUROCs, for independent records and for clusters of records."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from audits.statistics.clusters import critical_value, degrees_of_freedom, pooled_degrees
from audits.statistics.estimates import FloatArray, IntArray, as_clusters, as_weights
from audits.statistics.recovered_variance import Term


@dataclass(frozen=True)
class RankStatistics:
    """AUROCs of K models on the same records.

    Attributes:
        aurocs: [K], each in [0, 1].
        covariance: [K, K] sampling covariance of the AUROCs.
        units: Independent member / non-member pairs that can be formed without using a unit
            twice: min(n, m) for independent records, fewer with clusters or unequal weights.
        degrees: [K] degrees of freedom of each variance; infinite where it is a bound.
    """

    aurocs: FloatArray
    covariance: FloatArray
    units: int
    degrees: FloatArray

    def term(self, model: int, tail: float) -> Term:
        """One model's AUROC between the ends of the interval that leaves out `tail`."""
        value, variance = float(self.aurocs[model]), float(self.covariance[model, model])
        degrees = float(self.degrees[model])
        return Term(value, *logit_interval(value, variance, self.units, tail, degrees))

    @property
    def correlation(self) -> float:
        """Correlation of the first two models' AUROCs; 0 where one of them has no variance."""
        (var_a, both), (_, var_b) = self.covariance[:2, :2].tolist()
        return float(both / (var_a * var_b) ** 0.5) if var_a > 0.0 and var_b > 0.0 else 0.0


def placements(
    scores: FloatArray, others: FloatArray, weights: FloatArray | None = None
) -> FloatArray:
    """Share of `others` below each score, ties counted one half.

    O((n + m) log m). DeLong et al. 1988, equations 4 and 5, with psi = 1, 1/2, 0.

    Args:
        scores: [n].
        others: [m].
        weights: [m] how much each of `others` counts, or None for all alike.

    Returns:
        [n], in [0, 1].
    """
    order = np.argsort(others, kind="stable")
    ordered = others[order]
    below = np.searchsorted(ordered, scores, side="left")
    not_above = np.searchsorted(ordered, scores, side="right")
    if weights is None:
        return (below + not_above) / (2.0 * others.size)
    mass = np.concatenate([[0.0], np.cumsum(weights[order])])
    return (mass[below] + mass[not_above]) / (2.0 * mass[-1])


def rank_statistics(
    members: FloatArray,
    nonmembers: FloatArray,
    member_clusters: ArrayLike | None = None,
    nonmember_clusters: ArrayLike | None = None,
    member_weights: ArrayLike | None = None,
    nonmember_weights: ArrayLike | None = None,
) -> RankStatistics:
    """AUROC of each model and the covariance between them.

    Independent records: DeLong, DeLong and Clarke-Pearson 1988 (Biometrics 44), equations 6-8,
    S10/n + S01/m, in the O(n log n) form. Clusters: Obuchowski 1997 (Biometrics 53), the same
    components summed within a cluster first, with the covariance between the two sides for
    clusters that lie on both.

    A covariance that the data cannot give (one unit on a side, or a variance of 0 at an AUROC
    strictly between 0 and 1, as where all scores tie) is replaced by the largest variance that
    any pair of distributions can have, A(1 - A)/units (van Dantzig 1951), without covariance
    between models.

    Weights are counts of what a record stands for and held fixed: the components above become those
    of the weighted mean, and the effective number of records of a side is (sum w)^2 / sum w^2.

    Degrees of freedom: those of each side's clusters (`clusters.degrees_of_freedom`), pooled as the
    two variances add up; the fewer of the two where clusters lie on both sides, since the two
    are then not independent.

    Args:
        members: [K, n] scores of the same n members under K models.
        nonmembers: [K, m].
        member_clusters: [n] ids, or None. An id means the same cluster on both sides.
        nonmember_clusters: [m] ids, or None; given if and only if `member_clusters` is.
        member_weights: [n] at least 0, one above 0, or None for all alike.
        nonmember_weights: [m].

    Returns:
        AUROCs, covariance and number of disjoint pairs.

    Raises:
        ValueError: Clusters on one side only, or not one id and one weight per record.
    """
    n, m = members.shape[1], nonmembers.shape[1]
    x_ids = as_clusters(member_clusters, n, "member_clusters")
    y_ids = as_clusters(nonmember_clusters, m, "nonmember_clusters")
    x_weights = as_weights(member_weights, n, "member_weights")
    y_weights = as_weights(nonmember_weights, m, "nonmember_weights")
    pairs = list(zip(members, nonmembers, strict=True))
    v10 = np.stack([placements(x, y, y_weights) for x, y in pairs])
    v01 = 1.0 - np.stack([placements(y, x, x_weights) for x, y in pairs])
    aurocs = np.average(v10, axis=1, weights=x_weights)
    a = (v10 - aurocs[:, None]) * _shares(n, x_weights)  # [K, n]
    b = (v01 - aurocs[:, None]) * _shares(m, y_weights)  # [K, m]
    ours = _degrees(v10, x_weights, x_ids)
    theirs = _degrees(v01, y_weights, y_ids)
    n, m = _effective(n, x_weights), _effective(m, y_weights)
    if (x_ids is None) != (y_ids is None):
        raise ValueError("clusters: give ids for members and non-members, or for neither")
    if x_ids is None or y_ids is None:
        units, sizes, across = min(n, m), (n, m), np.zeros((len(aurocs), len(aurocs)))
        shared = False
    else:
        ids = np.unique(np.concatenate([x_ids, y_ids]))
        clusters = np.unique(x_ids).size, np.unique(y_ids).size
        sizes, shared = (min(n, clusters[0]), min(m, clusters[1])), sum(clusters) > ids.size
        units = max(1, min(*sizes, ids.size // 2))
        a = _sum_by_cluster(a, np.searchsorted(ids, x_ids), ids.size)
        b = _sum_by_cluster(b, np.searchsorted(ids, y_ids), ids.size)
        across = (a @ b.T + b @ a.T) * _small_sample(ids.size)
    inside, outside = a @ a.T * _small_sample(sizes[0]), b @ b.T * _small_sample(sizes[1])
    freedom = np.stack([ours, theirs])
    variances = np.stack([np.diag(inside), np.diag(outside)])
    degrees = freedom.min(axis=0) if shared else pooled_degrees(variances, freedom)
    return _bounded(aurocs, inside + outside + across, units, degrees, min(sizes))


def _degrees(
    components: FloatArray, weights: FloatArray | None, clusters: IntArray | None
) -> FloatArray:
    """Degrees of freedom that one side's clusters leave, [K]."""
    n = components.shape[1]
    index = np.arange(n) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    return degrees_of_freedom(components, _shares(n, weights), index)


def _shares(n: int, weights: FloatArray | None) -> FloatArray:
    """[n] weights that add up to 1."""
    return np.full(n, 1.0 / n) if weights is None else weights / weights.sum()


def _effective(n: int, weights: FloatArray | None) -> int:
    """Records of equal weight whose mean would vary as much (Kish 1965)."""
    if weights is None:
        return n
    rounding = 1e-9
    return max(1, int(weights.sum() ** 2 / (weights**2).sum() + rounding))


def _sum_by_cluster(components: FloatArray, index: IntArray, n_clusters: int) -> FloatArray:
    """[K, n] components summed into [K, n_clusters]."""
    return np.stack([np.bincount(index, weights=row, minlength=n_clusters) for row in components])


def _small_sample(units: int) -> float:
    """Factor that makes a mean of squares over `units` an unbiased variance."""
    return units / (units - 1) if units > 1 else 0.0


def _bounded(
    aurocs: FloatArray,
    covariance: FloatArray,
    units: int,
    degrees: FloatArray,
    smallest_side: int,
) -> RankStatistics:
    """The statistics with van Dantzig's bound where the data give no variance."""
    largest = aurocs * (1.0 - aurocs) / units
    rounding = 1e-14
    unknown = (np.diag(covariance) <= rounding * largest) | (smallest_side == 1)
    result = np.where(unknown[:, None] | unknown[None, :], 0.0, covariance)
    np.fill_diagonal(result, np.where(unknown, largest, np.diag(covariance)))
    return RankStatistics(aurocs, result, units, np.where(unknown, math.inf, degrees))


def logit_interval(
    auroc: float, variance: float, units: int, tail: float, degrees: float = math.inf
) -> tuple[float, float]:
    """Two-sided interval of an AUROC on the logit scale, exact where the sample is separated.

    logit(A) -+ t sqrt(variance) / (A(1 - A)), mapped back (Pepe 2003, section 5.2.5). At a sample
    AUROC of 1 the lower end is (tail/2)^(1/units): all of `units` disjoint pairs are in order
    with probability at most AUROC^units. At 0 its mirror.

    Args:
        auroc: Sample AUROC, in [0, 1].
        variance: Its sampling variance.
        units: Number of disjoint independent pairs.
        tail: Probability outside the interval, 0.05 for 95%.
        degrees: Degrees of freedom of the variance.

    Returns:
        Lower and upper end, in [0, 1].
    """
    extreme = float((tail / 2.0) ** (1.0 / units))
    if auroc >= 1.0:
        return extreme, 1.0
    if auroc <= 0.0:
        return 0.0, 1.0 - extreme
    half = critical_value(tail, degrees) * variance**0.5 / (auroc * (1.0 - auroc))
    centre = float(special.logit(auroc))
    return float(special.expit(centre - half)), float(special.expit(centre + half))
