"""Intervals of rates and gaps cover what they promise, also where almost nothing is memorized."""

import numpy as np
import pytest
from scipy.stats import binomtest

from audits.memorization.metrics import Summary
from audits.statistics.means import UtilityEstimate, gap


def rate(hits: np.ndarray, clusters: list[int] | None = None) -> UtilityEstimate:
    own = list(range(len(hits))) if clusters is None else clusters
    summary = Summary("rate", hits.astype(float))
    found = summary.mean(np.arange(len(hits)), own)
    assert found is not None
    return found


@pytest.mark.parametrize("hits", [0, 1, 7, 50])
def test_a_rate_has_clopper_and_pearsons_interval(hits: int) -> None:
    found = rate(np.arange(50) < hits)
    expected = binomtest(hits, 50).proportion_ci(method="exact")
    assert (found.lower, found.upper) == pytest.approx((expected.low, expected.high), rel=0.03)
    assert found.value == hits / 50


def test_copies_of_records_add_nothing() -> None:
    hits = np.arange(40) < 8
    doubled = rate(np.repeat(hits, 2), np.repeat(np.arange(40), 2).tolist())
    alone = rate(hits)
    assert doubled.value == alone.value
    assert doubled.n == 80
    assert (doubled.lower, doubled.upper) == pytest.approx((alone.lower, alone.upper))


def test_slices_and_nothing() -> None:
    summary = Summary("share", np.array([0.0, 0.5, 1.0]))
    found = summary.mean(np.array([1, 2]), ["a", "b", "c"])
    assert found is not None
    assert (found.value, found.n) == (0.75, 2)
    assert summary.mean(np.array([], dtype=np.int64), ["a", "b", "c"]) is None
    one = summary.mean(np.array([0, 1]), ["a", "a", "c"])
    assert one is not None
    assert (one.lower, one.upper) == (None, None)
    assert gap(one, found) == UtilityEstimate(-0.5, None, None, 4)


def test_a_gap_of_rates_is_newcombes_tenth_method_with_exact_terms() -> None:
    """His first example: 56/70 against 48/80 gives 0.0524 to 0.3339 with Wilson's terms."""
    found = gap(rate(np.arange(70) < 56), rate(np.arange(80) < 48))
    assert found.value == pytest.approx(0.2)
    assert (found.lower, found.upper) == pytest.approx((0.0524, 0.3339), abs=0.015)
    assert found.lower < 0.0524
    assert found.upper > 0.3339


@pytest.mark.parametrize(
    ("inside", "outside"), [(0.02, 0.02), pytest.param(0.3, 0.1, marks=pytest.mark.slow)]
)
def test_gaps_of_clustered_rates_are_covered(inside: float, outside: float) -> None:
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(100), 2).tolist()
    covered = 0
    for _ in range(400):
        # Two records of a cluster agree seven times in ten.
        sides = []
        for share in (inside, outside):
            first = rng.random(100) < share
            second = np.where(rng.random(100) < 0.7, first, rng.random(100) < share)
            sides.append(rate(np.stack([first, second], axis=1).ravel(), clusters))
        found = gap(*sides)
        assert found.lower is not None
        assert found.upper is not None
        covered += found.lower <= inside - outside <= found.upper
    assert 0.92 <= covered / 400 <= 0.995
