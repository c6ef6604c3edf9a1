"""Shares of found records: what they would seem to be, what they are, how often intervals cover."""

import numpy as np
import pytest
from scipy import stats

from audits.statistics import Estimate
from audits.tail.separations import separations
from audits.tail.shares import share_found
from benchmarks.planted_worlds import planted

ENOUGH = stats.norm.isf(0.001) - stats.norm.isf(0.1)
"""The separation from which on a record is found, of normal noise."""


def drawn(seed: int, separation: np.ndarray, worlds: int = 16) -> tuple[Estimate, float]:
    """The share found, and the raw share of estimates."""
    rng = np.random.default_rng([51, seed])
    found = planted(rng, separation.size, worlds, separation)
    estimate = share_found(found, planted(rng, 120, worlds))
    return estimate, float((separations(found).value >= ENOUGH).mean())


def test_nobody_is_found_where_all_stand_one_deviation_apart() -> None:
    """The raw share is several percent; the true one is 0."""
    results = [drawn(seed, np.ones(360)) for seed in range(10)]
    assert np.mean([raw for _, raw in results]) > 0.04
    assert np.mean([one.value for one, _ in results]) < 0.01
    assert all(one.lower == 0.0 for one, _ in results)


@pytest.mark.parametrize(
    ("exposed", "high", "low", "draws"),
    [
        pytest.param(0.04, 4.0, 0.2, 10, id="a few for certain"),
        pytest.param(0.0, 4.0, 0.0, 40, id="clean", marks=pytest.mark.slow),
        pytest.param(0.2, 2.4, 0.2, 40, id="a fifth just found", marks=pytest.mark.slow),
        pytest.param(1.0, 1.0, 0.2, 40, id="none quite", marks=pytest.mark.slow),
    ],
)
def test_intervals_cover(exposed: float, high: float, low: float, draws: int) -> None:
    separation = np.where(np.arange(360) < exposed * 360, high, low)
    truth = float((separation >= ENOUGH).mean())
    results = [drawn(seed, separation)[0] for seed in range(draws)]
    missed = sum(not one.lower <= truth <= one.upper for one in results)
    # More happens to an interval of 95% once in 1,000 times.
    assert missed <= stats.binom.ppf(0.999, draws, 0.05)
    if exposed == 0.04:
        assert np.mean([one.value for one in results]) == pytest.approx(truth, abs=0.01)
        assert np.mean([one.upper - one.lower for one in results]) < 0.08


def test_few_and_many_worlds_and_records_of_a_cluster() -> None:
    few, _ = drawn(0, np.zeros(360), 4)
    many, _ = drawn(0, np.where(np.arange(360) < 36, 2.4, 0.0), 64)
    assert few.lower == 0.0
    assert 0.06 < many.lower < 0.1 < many.upper < 0.16
    rng = np.random.default_rng(52)
    found, null = planted(rng, 50, 8, duplicates=2), planted(rng, 40, 8)
    estimate, units = share_found(found, null), share_found(found.by_cluster(), null)
    assert estimate == units
    assert (estimate.n_members, estimate.n_nonmembers) == (50, 40)


@pytest.mark.parametrize("worlds", [4, 64])
def test_records_beyond_any_doubt(worlds: int) -> None:
    some, _ = drawn(1, np.where(np.arange(100) < 10, 200.0, 0.0), worlds)
    assert some.value == pytest.approx(0.1, abs=0.005)
    assert 0.03 < some.lower < 0.1 < some.upper < 0.4
    everyone, _ = drawn(1, np.full(100, 200.0), worlds)
    assert 0.95 < everyone.lower < everyone.upper == 1.0


def test_rates_out_of_order_are_refused() -> None:
    found = planted(np.random.default_rng(53), 20, 4)
    with pytest.raises(ValueError, match="fpr < tpr"):
        share_found(found, found, tpr=0.001, fpr=0.1)
