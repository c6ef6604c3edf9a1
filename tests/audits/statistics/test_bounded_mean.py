"""Means of bounded numbers: exact intervals, drawn weights, the range, and how often they cover."""

import numpy as np
import pytest
from scipy import stats

from audits.statistics.means import UtilityEstimate, gap, share_interval


def drawn_bounds(values: np.ndarray, low: float = 0.0) -> tuple[float, float]:
    """The definition: quantiles of the mean under weights drawn uniformly from the simplex."""
    weights = np.random.default_rng(0).dirichlet(np.ones(len(values) + 1), size=40_000)
    lower = np.quantile(weights @ np.append(values, low), 0.025)
    return float(lower), float(np.quantile(weights @ np.append(values, 1.0), 0.975))


@pytest.mark.parametrize("n", [2, 12, 170, 2000])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 1.0])
def test_of_zeros_and_ones_it_is_clopper_and_pearsons(n: int, share: float) -> None:
    hits = round(share * n)
    found = share_interval(np.arange(n) < hits)
    exact = stats.binomtest(hits, n).proportion_ci(method="exact")
    assert found.lower == pytest.approx(exact.low, rel=0.04)
    assert 1 - found.upper == pytest.approx(1 - exact.high, rel=0.04)


@pytest.mark.parametrize("low", [0.0, -1.0])
@pytest.mark.parametrize("n", [3, 20, 170])
def test_of_any_numbers_it_is_that_of_drawn_weights(n: int, low: float) -> None:
    rng = np.random.default_rng(n)
    for values in (
        rng.uniform(low, 1, n),
        rng.beta(0.1, 3, n),
        np.full(n, 0.3),
        rng.integers(0, 2, n),
    ):
        found, expected = share_interval(values, low=low), drawn_bounds(values, low)
        width = expected[1] - expected[0]
        assert (found.lower, found.upper) == pytest.approx(expected, abs=0.02 * width)


def test_of_many_moderate_numbers_it_is_near_students_t() -> None:
    values = np.random.default_rng(1).beta(1.2, 2.2, size=2000)
    usual = stats.ttest_1samp(values, 0).confidence_interval()
    found = share_interval(values)
    assert (found.lower, found.upper) == pytest.approx((usual.low, usual.high), abs=0.001)
    assert found.upper - found.lower < 1.05 * (usual.high - usual.low)


def test_copies_of_a_record_add_nothing_and_order_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    values = rng.uniform(size=40)
    alone = share_interval(values)
    copied = share_interval(np.repeat(values, 3), np.repeat(np.arange(40), 3).tolist())
    assert (copied.lower, copied.upper) == pytest.approx((alone.lower, alone.upper))
    mixed = share_interval(rng.permutation(values))
    assert (mixed.lower, mixed.upper) == pytest.approx((alone.lower, alone.upper))


@pytest.mark.parametrize("tiny", [0.0, 1e-300, 1e-9, 1e-3])
def test_it_has_a_width_and_stays_in_range(tiny: float) -> None:
    for n in (2, 50, 2000):
        for values in (np.full(n, tiny), np.full(n, 1.0 - tiny), np.where(np.arange(n), tiny, 1.0)):
            found = share_interval(values)
            assert 0.0 <= found.lower <= values.mean() + 1e-12
            assert values.mean() - 1e-12 <= found.upper <= 1.0
            assert found.upper - found.lower > 0.9 * (1 - 0.025 ** (1 / n))


def skewed_clusters(rng: np.random.Generator, n: int) -> np.ndarray:
    """Cluster of each of n records, sizes by Zipf's law, none with more than a quarter."""
    sizes = np.minimum(rng.zipf(2.0, size=n), n // 4)
    return np.repeat(np.arange(n), sizes)[:n]


def sparse(rng: np.random.Generator, n: int, share: float) -> np.ndarray:
    return np.where(rng.random(n) < share, 1.0, 1e-9)


def covered(found: UtilityEstimate, truth: float) -> bool:
    assert found.lower is not None
    assert found.upper is not None
    assert found.upper > found.lower
    return found.lower <= truth <= found.upper


@pytest.mark.parametrize(
    ("n", "share"), [(170, 0.005), pytest.param(60, 0.03, marks=pytest.mark.slow)]
)
def test_rare_ones_among_zeros_are_covered(n: int, share: float) -> None:
    """A t interval covers 0.005 of 170 in 58% and has no width in 42%."""
    rng = np.random.default_rng(3)
    means = sum(covered(share_interval(sparse(rng, n, share)), share) for _ in range(200))
    excesses = 0
    for _ in range(200):
        pair = sparse(rng, n, share) - sparse(rng, n, share / 2)
        excesses += covered(share_interval(pair, low=-1.0), share / 2)
    gaps = 0
    for _ in range(200):
        sides = share_interval(sparse(rng, n, share)), share_interval(sparse(rng, n, share / 2))
        gaps += covered(gap(*sides), share / 2)
    assert min(means, excesses, gaps) >= 0.93 * 200


@pytest.mark.parametrize("share", [0.01, 0.1, 0.4])
def test_skewed_clusters_are_covered(share: float) -> None:
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(200):
        ids = skewed_clusters(rng, 200)
        alike = rng.random(200) < 0.5
        values = np.where(alike, sparse(rng, 200, share)[ids], sparse(rng, 200, share))
        hits += covered(share_interval(values, ids.tolist()), share)
    assert hits >= 0.93 * 200
