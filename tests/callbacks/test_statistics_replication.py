"""Replicates and multiplicity against scipy, closed forms and hand-worked examples."""

import math

import numpy as np
import pytest
from scipy import stats

from callbacks.statistics import (
    Replicate,
    auroc,
    hierarchical_bootstrap,
    holm,
    minimal_detectable_difference,
    replicate_mean,
)


def area(members: np.ndarray, nonmembers: np.ndarray) -> float:
    return auroc(members[0], nonmembers[0]).value


def mean_gap(members: np.ndarray, nonmembers: np.ndarray) -> float:
    return float(members.mean() - nonmembers.mean())


def test_replicate_mean_is_students_interval() -> None:
    values = [0.1, 0.4, 0.2, 0.35, 0.3]
    found = replicate_mean(values, level=0.9)
    low, high = stats.t.interval(0.9, 4, np.mean(values), stats.sem(values))
    assert (found.lower, found.upper) == pytest.approx((low, high))
    assert (found.value, found.n_replicates) == (pytest.approx(0.27), 5)
    assert found.standard_error == pytest.approx(stats.sem(values))


def test_one_replicate_says_nothing_about_others() -> None:
    found = replicate_mean([0.7])
    assert (found.value, found.lower, found.upper) == (0.7, -math.inf, math.inf)
    assert math.isnan(found.standard_error)
    with pytest.raises(ValueError, match="no scores"):
        replicate_mean([])
    with pytest.raises(ValueError, match="NaN"):
        replicate_mean([0.1, math.nan])


def replicates(seed: int, r: int, n: int, spread: float) -> list[Replicate]:
    rng = np.random.default_rng(seed)
    means = 1.0 + spread * rng.normal(size=r)
    return [Replicate(rng.normal(size=(1, n)) + m, rng.normal(size=(1, n))) for m in means]


def test_hierarchical_bootstrap_value_key_and_refusal() -> None:
    sample = replicates(1, 5, 40, 0.3)
    found = hierarchical_bootstrap(sample, area, n_draws=60, seed=3)
    assert found.value == pytest.approx(np.mean([area(s.members, s.nonmembers) for s in sample]))
    assert found.lower < found.value < found.upper
    assert found == hierarchical_bootstrap(sample, area, n_draws=60, seed=3)
    with pytest.raises(ValueError, match="at least 2"):
        hierarchical_bootstrap(sample[:1], area)


def test_hierarchical_bootstrap_has_both_levels_in_its_width() -> None:
    # Variance of a mean of means under the scheme: between / R + within / (R n), expanded by
    # sqrt(R / (R - 1)) t / z.
    r, n = 6, 50
    sample = replicates(2, r, n, 0.5)
    gaps = [mean_gap(s.members, s.nonmembers) for s in sample]
    within = np.mean([(s.members.var() + s.nonmembers.var()) / n for s in sample])
    error = math.sqrt((np.var(gaps) + within) / r)
    found = hierarchical_bootstrap(sample, mean_gap, 0.8, n_draws=1500, seed=1)
    half = error * math.sqrt(r / (r - 1)) * stats.t.ppf(0.9, r - 1)
    assert (found.upper - found.lower) / 2 == pytest.approx(half, rel=0.08)


def test_hierarchical_bootstrap_resamples_whole_clusters() -> None:
    ids = np.repeat(np.arange(6), [1, 2, 3, 1, 4, 2])
    seen: list[np.ndarray] = []

    def watch(members: np.ndarray, nonmembers: np.ndarray) -> float:
        seen.append(members[0])
        assert np.array_equal(members[1], -members[0])  # models stay paired on records
        return float(members[0].mean())

    scores = ids * 10.0
    sample = [Replicate(np.stack([scores, -scores]), np.ones((2, 3)), ids) for _ in range(2)]
    hierarchical_bootstrap(sample, watch, n_draws=20, seed=0)
    sizes = np.bincount(ids)
    for drawn in seen:
        counts = np.bincount((drawn / 10).astype(int), minlength=6)
        assert np.all(counts % sizes == 0)
        assert np.sum(counts // sizes) == 6
    assert len({tuple(drawn) for drawn in seen}) > 10


@pytest.mark.parametrize("df", [4, 9, math.inf])
def test_minimal_detectable_difference_has_the_power_it_promises(df: float) -> None:
    difference = minimal_detectable_difference(0.02, df)
    rng, draws = np.random.default_rng(0), 200_000
    noise = rng.normal(size=draws) + difference / 0.02
    scale = 1.0 if math.isinf(df) else np.sqrt(rng.chisquare(df, draws) / df)
    rejected = np.abs(noise / scale) > stats.t.ppf(0.975, df)
    assert rejected.mean() == pytest.approx(0.8, abs=0.004)


def test_minimal_detectable_difference_closed_form_and_refusals() -> None:
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert minimal_detectable_difference(1.0, math.inf) == pytest.approx(z, abs=1e-4)
    assert minimal_detectable_difference(1.0, 1) > minimal_detectable_difference(1.0, 4) > z
    for arguments in ((0.0, 4), (1.0, 0), (math.nan, 4), (1.0, 4, 0.05), (1.0, 4, 1.0)):
        with pytest.raises(ValueError, match="expected"):
            minimal_detectable_difference(*arguments)


def naive_holm(p: list[float]) -> list[float]:
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, running = [0.0] * len(p), 0.0
    for step, i in enumerate(order):
        running = max(running, (len(p) - step) * p[i])
        adjusted[i] = min(1.0, running)
    return adjusted


def test_holm_by_hand_and_by_loop() -> None:
    # Holm's steps for 0.01, 0.04, 0.03, 0.005: 4 x 0.005, 3 x 0.01, 2 x 0.03, then 0.06 again.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    p = np.random.default_rng(1).random(30).round(2).tolist()
    assert holm(p) == pytest.approx(naive_holm(p))
    assert np.all(holm(p) >= p)


def test_holm_leaves_untested_hypotheses_out_of_the_family() -> None:
    found = holm([0.01, math.nan, 0.02])
    assert found[[0, 2]] == pytest.approx([0.02, 0.02])
    assert math.isnan(found[1])
    assert holm([]).size == 0
    assert np.isnan(holm([math.nan])).all()
    for bad in ([1.2], [-0.1], [[0.1]]):
        with pytest.raises(ValueError, match="p_values"):
            holm(bad)
