"""The conditional curve and its difference-in-differences: loops, drawn weights, false alarms."""

import numpy as np
import pytest

from audits.statistics.conditional import (
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


def drawn_bounds(values: list[float], low: float) -> tuple[float, float]:
    """Quantiles of the mean under weights drawn uniformly from the simplex, one end more."""
    weights = np.random.default_rng(0).dirichlet(np.ones(len(values) + 1), size=20_000)
    lower = np.quantile(weights @ np.append(values, low), 0.025)
    return float(lower), float(np.quantile(weights @ np.append(values, 1.0), 0.975))


def test_the_mean_is_a_plain_loops() -> None:
    records, _ = population(0, 300)
    for tau in TAUS:
        kept = [v for v, t in zip(records.values, records.teacher, strict=True) if float(t) > tau]
        found = conditional_mean(records, tau)
        assert found.n_members == len(kept)
        assert found.value == pytest.approx(sum(kept) / len(kept))
        assert (found.lower, found.upper) == pytest.approx(drawn_bounds(kept, 0.0), abs=0.003)


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


def test_did_is_a_plain_loops_with_recovered_bounds() -> None:
    _, private = population(3, 300, inherited=0.1)
    _, never = population(4, 200)
    did = difference_in_differences(private, never, 0.6)
    sides = [
        [v for v, t in zip(one.values.tolist(), one.teacher, strict=True) if t > 0.6]
        for one in (private, never)
    ]
    ours, theirs = (np.mean(side) for side in sides)
    assert did.value == pytest.approx(ours - theirs)
    assert (did.n_members, did.n_nonmembers) == tuple(map(len, sides))
    (a, b), (c, d) = (drawn_bounds(side, -1.0) for side in sides)
    lower = did.value - np.hypot(ours - a, d - theirs)
    upper = did.value + np.hypot(b - ours, theirs - c)
    assert (did.lower, did.upper) == pytest.approx((lower, upper), abs=0.003)


def jumps(rng: np.random.Generator, n: int, inherited: float = 0.0) -> TaughtRecords:
    """5% of records jump by a half, some by what they inherited; the others do not differ."""
    values = np.where(rng.random(n) < 0.05, 0.5, 0.0) + inherited
    return TaughtRecords(values, np.ones(n))


@pytest.mark.parametrize(
    ("n_private", "n_never"),
    [
        (100, 20),
        (20, 100),
        *(pytest.param(n, m, marks=pytest.mark.slow) for n, m in ((100, 60), (300, 300))),
    ],
)
def test_chance_is_not_called_inheritance(n_private: int, n_never: int) -> None:
    """The bootstrap of clusters called 100 against 20 records inheritance in 26%."""
    rng = np.random.default_rng(5)
    alarms = covered = 0
    for _ in range(200):
        did = difference_in_differences(jumps(rng, n_private), jumps(rng, n_never), 0.5)
        alarms += did.lower > 0.0
        covered += did.lower <= 0.0 <= did.upper
    assert alarms <= 0.05 * 200
    assert covered >= 0.93 * 200


def test_inheritance_is_found_where_records_are_many() -> None:
    rng = np.random.default_rng(6)
    found = [
        difference_in_differences(jumps(rng, 300, 0.1), jumps(rng, 300), 0.5) for _ in range(20)
    ]
    assert all(did.lower > 0.0 for did in found)


def test_clusters_widen_the_interval() -> None:
    rng = np.random.default_rng(9)
    values = np.repeat(rng.uniform(size=40), 10)
    teacher = np.ones(400)
    alone = conditional_mean(TaughtRecords(values, teacher), 0.5)
    grouped = conditional_mean(TaughtRecords(values, teacher, np.repeat(np.arange(40), 10)), 0.5)
    assert grouped.value == pytest.approx(alone.value)
    ratio = (grouped.upper - grouped.lower) / (alone.upper - alone.lower)
    assert 10**0.5 < ratio < 1.4 * 10**0.5


def test_columns_must_fit() -> None:
    with pytest.raises(ValueError, match="accuracies of the teacher"):
        TaughtRecords(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="clusters"):
        TaughtRecords(np.ones(2), np.ones(2), np.arange(3))
