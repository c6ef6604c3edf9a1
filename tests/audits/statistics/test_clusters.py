"""Degrees of freedom over clusters: closed forms, a matrix, a limit, and how often t covers."""

import math

import numpy as np
import pytest
from scipy import stats

from audits.statistics import auroc, paired_difference, swap_estimate
from audits.statistics.clusters import critical_value, degrees_of_freedom, pooled_degrees
from audits.statistics.delong import rank_statistics
from audits.statistics.means import ratio_interval


def test_the_quantile_is_students_and_the_normal_ones() -> None:
    for tail in (0.5, 0.05, 1e-6, 1e-30):
        assert critical_value(tail) == pytest.approx(stats.norm.isf(tail / 2))
        for degrees in (1.0, 3.7, 98.2):
            assert critical_value(tail, degrees) == pytest.approx(stats.t.isf(tail / 2, degrees))


@pytest.mark.parametrize(("groups", "size"), [(2, 5), (10, 4), (60, 1), (7, 30)])
def test_clusters_of_equal_size_leave_their_number_less_one(groups: int, size: int) -> None:
    values = np.random.default_rng(0).normal(size=(3, groups * size))
    index = np.repeat(np.arange(groups), size)
    found = degrees_of_freedom(values, np.full(groups * size, 0.3), index)
    assert found == pytest.approx(np.full(3, groups - 1.0))


def test_many_records_of_their_own_tend_to_the_normal_quantile() -> None:
    degrees = degrees_of_freedom(np.zeros((1, 100_000)), np.ones(100_000), np.arange(100_000))
    assert critical_value(0.05, float(degrees[0])) == pytest.approx(critical_value(0.05), abs=1e-4)


def test_degrees_are_satterthwaites_of_the_whole_matrix() -> None:
    """trace(C)^2 / trace(C^2) by matrices, with the correlation by a one-way table."""
    rng = np.random.default_rng(1)
    index = np.concatenate([np.arange(6), rng.integers(0, 6, 40)])
    weights, n = rng.uniform(size=46), 46
    values = rng.normal(size=6)[index] + rng.normal(size=46)
    groups = [values[index == one] for one in range(6)]
    sizes = np.array([len(one) for one in groups])
    within = sum(((one - one.mean()) ** 2).sum() for one in groups) / (n - 6)
    between = sum(len(one) * (one.mean() - values.mean()) ** 2 for one in groups) / 5
    typical = (n - (sizes**2).sum() / n) / 5
    rho = min(1.0, max(0.0, (between - within) / (between + (typical - 1) * within)))
    assert 0.0 < rho < 1.0
    share = weights / weights.sum()
    p = np.array([share[index == one].sum() for one in range(6)])
    d = [(1 - rho) * (share[index == one] ** 2).sum() + rho * p[one] ** 2 for one in range(6)]
    centring = np.eye(6) - np.outer(p, np.ones(6))
    c = centring @ np.diag(d) @ centring.T
    expected = np.trace(c) ** 2 / np.trace(c @ c)
    found = degrees_of_freedom(values[None], weights, index)
    assert found[0] == pytest.approx(expected)
    assert found[0] < 5.0


def test_sums_of_variances_have_welchs_degrees() -> None:
    a, b = np.random.default_rng(2).normal(size=30), 3 * np.random.default_rng(3).normal(size=12)
    variances = np.array([a.var(ddof=1) / 30, b.var(ddof=1) / 12])
    expected = stats.ttest_ind(a, b, equal_var=False).df
    assert pooled_degrees(variances, np.array([29.0, 11.0])) == pytest.approx(expected)
    assert pooled_degrees(np.zeros(2), np.array([29.0, 11.0])) == math.inf
    assert pooled_degrees(np.array([0.0, 1.0]), np.array([0.0, 11.0])) == pytest.approx(11.0)


def test_aurocs_have_them() -> None:
    rng = np.random.default_rng(4)
    x, y, ids = rng.normal(size=(1, 40)), rng.normal(size=(1, 40)), np.arange(40) // 4
    apart, alone = rank_statistics(x, y, ids, ids + 10), rank_statistics(x, y)
    assert 9.0 <= apart.degrees[0] <= 18.0
    assert 39.0 <= alone.degrees[0] <= 78.0
    # Clusters on both sides: their sums are not independent, and add no degrees.
    assert rank_statistics(x, y, ids, ids).degrees[0] == pytest.approx(9.0)
    # Where the data give no variance, its bound is known.
    assert rank_statistics(x + 99, y).degrees[0] == math.inf


def skewed_clusters(rng: np.random.Generator) -> np.ndarray:
    """Cluster of each of 200 records: sizes by Zipf's law, none with more than 50."""
    return np.repeat(np.arange(200), np.minimum(rng.zipf(2.0, size=200), 50))[:200]


def clustered(rng: np.random.Generator, ids: np.ndarray) -> np.ndarray:
    return 0.5**0.5 * (rng.normal(size=200)[ids] + rng.normal(size=200))


def test_skewed_clusters_are_covered() -> None:
    """With normal quantiles, or G - 1 degrees, these cover 0.85 to 0.90."""
    rng = np.random.default_rng(5)
    shift = float(stats.norm.ppf(0.7) * 2**0.5)
    hits, draws = np.zeros(4), 300
    for _ in range(draws):
        ours, theirs = skewed_clusters(rng), skewed_clusters(rng)
        ids = {"member_clusters": ours, "nonmember_clusters": theirs + 200}
        (ax, bx), (ay, by) = ([clustered(rng, one) for _ in "ab"] for one in (ours, theirs))
        found = [
            (auroc(ax + shift, ay, **ids), 0.7),
            (paired_difference(ax + shift, ay, bx, by, **ids), 0.2),
            (swap_estimate(ax + 1, ay, bx + 1, by, **ids), 0.5),
            (ratio_interval(ax, np.ones(200), ours.tolist()), 0.0),
        ]
        hits += [one.lower <= truth <= one.upper for one, truth in found]
    assert (hits / draws >= 0.93).all(), hits / draws
