"""The conditional curve and its difference-in-differences against loops, t intervals, planting."""

import numpy as np
import pytest
from scipy import stats

from callbacks.statistics.conditional import (
    TAUS,
    TaughtRecords,
    conditional_mean,
    difference_in_differences,
)


def population(seed: int, n: int, inherited: float = 0.0) -> tuple[TaughtRecords, TaughtRecords]:
    """Student accuracy, and its excess over a counterfactual, on records of mixed difficulty."""
    rng = np.random.default_rng(seed)
    ease = rng.uniform(size=n)
    teacher = np.clip(ease + rng.normal(0, 0.1, n), 0, 1)
    student = np.clip(ease + rng.normal(0, 0.1, n), 0, 1) + inherited
    counterfactual = np.clip(ease + rng.normal(0, 0.1, n), 0, 1)
    return TaughtRecords(student, teacher), TaughtRecords(student - counterfactual, teacher)


def test_the_mean_is_a_plain_loops() -> None:
    records, _ = population(0, 300)
    for tau in TAUS:
        kept = [v for v, t in zip(records.values, records.teacher, strict=True) if float(t) > tau]
        found = conditional_mean(records, tau)
        assert found.n_members == len(kept)
        assert found.value == pytest.approx(sum(kept) / len(kept))
        lower, upper = stats.t.interval(0.95, len(kept) - 1, np.mean(kept), stats.sem(kept))
        assert (found.lower, found.upper) == pytest.approx((lower, upper))


def test_the_cut_is_strict_and_empty_sets_are_empty() -> None:
    records = TaughtRecords(np.array([0.2, 0.4]), np.array([0.5, 0.6]))
    assert conditional_mean(records, 0.5).value == pytest.approx(0.4)
    assert conditional_mean(records, 0.5).lower is None
    empty = conditional_mean(records, 0.6)
    assert (empty.value, empty.lower, empty.n_members) == (None, None, 0)
    did = difference_in_differences(records, records, 0.6)
    assert (did.value, did.n_members, did.n_nonmembers) == (None, 0, 0)


def test_the_curve_rises_without_inheritance_and_did_does_not() -> None:
    student, private = population(1, 2000)
    _, never = population(2, 2000)
    curve = [conditional_mean(student, tau).value for tau in TAUS]
    assert curve == sorted(curve)
    assert curve[-1] - curve[0] > 0.1
    for tau in (0.5, 0.9):
        did = difference_in_differences(private, never, tau)
        assert did.lower < 0.0 < did.upper
    _, planted = population(1, 2000, inherited=0.05)
    did = difference_in_differences(planted, never, 0.5)
    assert did.lower > 0.02
    assert did.value == pytest.approx(0.05, abs=0.02)


def test_did_is_a_plain_loops_and_covers() -> None:
    covered = 0
    for seed in range(150):
        _, private = population(3 + 2 * seed, 60, inherited=0.1)
        _, never = population(4 + 2 * seed, 40)
        did = difference_in_differences(private, never, 0.6, n_draws=400, seed=seed)
        covered += did.lower <= 0.1 <= did.upper
        sides = [
            [v for v, t in zip(one.values, one.teacher, strict=True) if t > 0.6]
            for one in (private, never)
        ]
        assert did.value == pytest.approx(np.mean(sides[0]) - np.mean(sides[1]))
        assert (did.n_members, did.n_nonmembers) == tuple(map(len, sides))
    # Clipping at 1 leaves the excess without bias, since both students are clipped alike.
    assert 0.89 <= covered / 150 <= 0.99


def test_clusters_widen_the_interval() -> None:
    rng = np.random.default_rng(9)
    values = np.repeat(rng.uniform(size=40), 10)
    teacher = np.ones(400)
    alone = conditional_mean(TaughtRecords(values, teacher), 0.5)
    grouped = conditional_mean(TaughtRecords(values, teacher, np.repeat(np.arange(40), 10)), 0.5)
    assert grouped.value == pytest.approx(alone.value)
    ratio = (grouped.upper - grouped.lower) / (alone.upper - alone.lower)
    assert ratio == pytest.approx(10**0.5, rel=0.15)


def test_columns_must_fit() -> None:
    with pytest.raises(ValueError, match="accuracies of the teacher"):
        TaughtRecords(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="clusters"):
        TaughtRecords(np.ones(2), np.ones(2), np.arange(3))
