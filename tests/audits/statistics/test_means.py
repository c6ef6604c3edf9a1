"""Intervals against scipy, a bootstrap, and simulated coverage."""

import numpy as np
import pytest
from scipy import stats

from audits.statistics.means import ratio_interval, share_interval


def test_a_mean_has_the_usual_t_interval() -> None:
    values = np.random.default_rng(0).normal(size=30)
    found = ratio_interval(values, np.ones(30))
    usual = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.value, found.n) == (pytest.approx(values.mean()), 30)
    assert (found.lower, found.upper) == (pytest.approx(usual.low), pytest.approx(usual.high))


def test_a_ratio_agrees_with_the_bootstrap_over_clusters() -> None:
    draw = np.random.default_rng(1)
    weights = draw.integers(5, 100, size=400)
    shared = np.repeat(draw.normal(size=100), 4)
    numbers = weights * (3 + shared + 0.3 * draw.normal(size=400))
    clusters = np.repeat(np.arange(100), 4).tolist()
    found = ratio_interval(numbers, weights, clusters)
    tops, bottoms = numbers.reshape(100, 4).sum(1), weights.reshape(100, 4).sum(1)
    picks = draw.integers(0, 100, size=(4_000, 100))
    ratios = tops[picks].sum(1) / bottoms[picks].sum(1)
    lower, upper = np.quantile(ratios, [0.025, 0.975])
    assert found.value == pytest.approx(numbers.sum() / weights.sum())
    assert found.upper - found.lower == pytest.approx(upper - lower, rel=0.1)
    assert found.lower == pytest.approx(lower, abs=0.1 * (upper - lower))
    # Ignoring the clusters would make the interval far too narrow.
    alone = ratio_interval(numbers, weights)
    assert alone.upper - alone.lower < 0.7 * (found.upper - found.lower)


def test_intervals_cover_the_truth() -> None:
    draw = np.random.default_rng(2)
    hits = 0
    for _ in range(1_000):
        weights = draw.integers(1, 60, size=60)
        found = ratio_interval(weights * draw.gamma(4, 0.5, size=60), weights)
        hits += found.lower <= 2 <= found.upper
    assert 0.93 <= hits / 1_000 <= 0.97


def test_shares_stay_in_their_range_and_keep_a_width() -> None:
    for hits in ([0.0, 0.0, 1.0], [0.0] * 20, [1.0] * 20, [1e-9] * 20):
        found = share_interval(hits)
        assert 0.0 <= found.lower <= found.value <= found.upper <= 1.0
        assert found.upper - found.lower > 0.1
    nothing = share_interval([0.0] * 20)
    assert (nothing.value, nothing.lower) == (0, 0)
    assert nothing.upper == pytest.approx(1 - 0.025 ** (1 / 20), rel=0.01)
    everything = share_interval([1.0] * 20, clusters=[0] * 10 + [1] * 10)
    assert everything.lower == pytest.approx(0.025 ** (1 / 2), rel=0.02)
    assert everything.upper == 1
    alike = share_interval([0.0] * 20, low=-1.0)
    assert (alike.lower, alike.upper) == pytest.approx((-nothing.upper, nothing.upper))


def test_shares_may_weigh() -> None:
    values, weights = np.linspace(0, 1, 30), np.arange(30.0)
    found = share_interval(values, weights=weights)
    assert found.value == pytest.approx(np.average(values, weights=weights))
    assert found.lower < found.value < found.upper
    alike = share_interval(values, weights=np.full(30, 0.2))
    assert alike.lower == pytest.approx(share_interval(values).lower)
    assert share_interval(values, weights=np.arange(30) == 3).upper is None


def test_one_cluster_has_no_interval() -> None:
    for found in (ratio_interval([2.0], [1.0]), ratio_interval([2.0, 4.0], [1, 1], [0, 0])):
        assert (found.lower, found.upper) == (None, None)
    assert found.value == 3
    assert share_interval([0.5]).upper is None


@pytest.mark.parametrize(
    ("top", "bottom", "clusters"),
    [
        ([], [], None),
        ([1.0], [1.0, 2.0], None),
        ([1.0, 2.0], [1.0, 1.0], [0]),
        ([float("nan")], [1.0], None),
        ([1.0], [0.0], None),
        ([1.0, 1.0], [2.0, -1.0], None),
    ],
)
def test_bad_input_is_refused(top: list[float], bottom: list[float], clusters: list[int]) -> None:
    with pytest.raises(ValueError, match=r"record|weights"):
        ratio_interval(top, bottom, clusters)


def test_bad_shares_are_refused() -> None:
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        share_interval([1.2])
