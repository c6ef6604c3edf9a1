"""Tests over blocks: sums by hand, the right rate of false alarms, and power."""

import numpy as np
import pytest
from scipy import stats

from audits.statistics import auroc
from audits.statistics.equality import _weighted_wins, block_p_values, spread_over_blocks


def scores(n: int, shifts: list[float], seed: int, common: float = 0.7) -> np.ndarray:
    """[n, L, 1] scores whose blocks share part of their noise."""
    draw = np.random.default_rng(seed)
    shared, own = draw.normal(size=(n, 1)), draw.normal(size=(n, len(shifts)))
    return (common * shared + (1 - common**2) ** 0.5 * own + np.array(shifts))[:, :, None]


def test_weighted_wins_count_pairs() -> None:
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 5, 12).astype(float), draw.integers(0, 5, 9).astype(float)
    ours, theirs = draw.integers(0, 4, (12, 3)) * 1.0, draw.integers(0, 4, (9, 3)) * 1.0
    expected = [
        sum(
            ours[i, p] * theirs[j, p] * ((x[i] > y[j]) + 0.5 * (x[i] == y[j]))
            for i in range(12)
            for j in range(9)
        )
        for p in range(3)
    ]
    np.testing.assert_allclose(_weighted_wins(x, y, ours, theirs), expected)


def test_p_values_are_those_of_the_rank_sum_test() -> None:
    members, others = scores(60, [0.4, 0.0, -0.4], 1)[..., 0], scores(50, [0, 0, 0], 2)[..., 0]
    ids = np.arange(60), np.arange(60, 110)
    for directed, kind in ((True, "greater"), (False, "two-sided")):
        found = block_p_values(members.T, others.T, *ids, directed=directed)
        for block in range(3):
            exact = stats.mannwhitneyu(members[:, block], others[:, block], alternative=kind)
            assert found[block] == pytest.approx(exact.pvalue, abs=0.025)
    assert block_p_values(members.T, others.T, *ids, directed=True)[2] > 0.9


def test_records_of_a_cluster_are_one_piece_of_evidence() -> None:
    members, others = scores(40, [0.5], 1)[..., 0], scores(40, [0.0], 2)[..., 0]
    ids = np.arange(40), np.arange(40, 80)
    alone = block_p_values(members.T, others.T, *ids, directed=True)
    copied = [np.repeat(one, 4, axis=0).T for one in (members, others)]
    together = block_p_values(*copied, *(np.repeat(one, 4) for one in ids), directed=True)
    apart = block_p_values(*copied, np.arange(160), np.arange(160, 320), directed=True)
    assert together[0] == pytest.approx(alone[0], abs=0.02)
    assert apart[0] < alone[0] / 2


def test_equal_blocks_are_called_equal() -> None:
    wald, exchanged, covered = [], [], []
    for seed in range(60):
        members, others = scores(80, [0.6] * 4, seed), scores(80, [0.0] * 4, 1000 + seed)
        found = spread_over_blocks(members, others, np.arange(80), np.arange(80, 160), seed=seed)
        wald.append(found.wald_p_value)
        exchanged.append(found.p_value)
        covered.append(found.lower == 0.0)
        assert found.corrected <= found.value
    for p_values in (wald, exchanged):
        assert np.mean(np.array(p_values) <= 0.05) <= 0.15
        assert stats.kstest(p_values, "uniform").pvalue > 1e-3
    assert np.mean(covered) >= 0.9


def test_blocks_that_differ_are_found_with_the_right_distance() -> None:
    members, others = scores(300, [0.2, 0.2, 1.2], 3), scores(300, [0, 0, 0], 4)
    ids = np.arange(300), np.arange(300, 600)
    found = spread_over_blocks(members, others, *ids)
    areas = [auroc(members[:, b, 0], others[:, b, 0]).value for b in range(3)]
    assert found.value == pytest.approx(max(areas) - min(areas))
    truth = stats.norm.cdf(1.2 / 2**0.5) - stats.norm.cdf(0.2 / 2**0.5)
    assert 0.05 < found.lower < truth < found.upper
    assert found.p_value == 1 / 500
    assert found.wald_p_value < 1e-10
    difference = auroc(members[:, 2, 0], others[:, 2, 0]).value - areas[0]
    two = spread_over_blocks(members[:, [0, 2]], others[:, [0, 2]], *ids)
    z = difference / _paired_error(members[:, [0, 2], 0], others[:, [0, 2], 0])
    assert two.wald == pytest.approx(z**2, rel=1e-9)


def _paired_error(members: np.ndarray, others: np.ndarray) -> float:
    """DeLong's standard error of the difference of two AUROCs, by loops."""

    def wins(column: int) -> np.ndarray:
        x, y = members[:, column], others[:, column]
        return (x[:, None] > y) + 0.5 * (x[:, None] == y)

    gaps = wins(1) - wins(0)
    rows, columns = gaps.mean(axis=1), gaps.mean(axis=0)
    return float((rows.var(ddof=1) / len(rows) + columns.var(ddof=1) / len(columns)) ** 0.5)


def test_draws_widen_the_interval_and_weaken_the_tests() -> None:
    draw = np.random.default_rng(0)
    members, others = scores(150, [0.5] * 3, 5), scores(150, [0.0] * 3, 6)
    shift = draw.normal(0, 0.8, (1, 3, 4))
    shift -= shift.mean(axis=2, keepdims=True)
    noisy = spread_over_blocks(
        members + shift, others.repeat(4, axis=2), np.arange(150), np.arange(150, 300)
    )
    calm = spread_over_blocks(members, others, np.arange(150), np.arange(150, 300))
    assert noisy.value == pytest.approx(calm.value)
    assert noisy.upper > calm.upper + 0.05
    assert noisy.wald < calm.wald


def test_blocks_that_say_the_same_do_not_differ() -> None:
    members, others = (
        np.repeat(one, 3, axis=1) for one in (scores(30, [1], 1), scores(30, [0], 2))
    )
    found = spread_over_blocks(members, others, np.arange(30), np.arange(30, 60))
    assert (found.value, found.wald, found.wald_p_value, found.p_value) == (0.0, 0.0, 1.0, 1.0)
