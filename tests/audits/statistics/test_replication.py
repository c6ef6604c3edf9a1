"""Replicates and multiplicity against scipy, closed forms and hand-worked examples."""

import math

import numpy as np
import pytest
from scipy import stats

from audits.statistics import (
    holm,
    minimal_detectable_difference,
    replicate_mean,
)


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
    assert not found.has_interval


def test_replicates_that_all_agree_have_no_interval() -> None:
    """Neither 0.3 nor 0.1 + 0.2 five times over is known without an error."""
    for value in (0.0, 0.3, 0.1 + 0.2):
        found = replicate_mean([value] * 5)
        assert (found.value, found.lower, found.upper) == (
            pytest.approx(value),
            -math.inf,
            math.inf,
        )
        assert math.isnan(found.standard_error)
        assert found.n_replicates == 5
    assert replicate_mean([0.3, 0.3 + 1e-9]).has_interval


def test_no_replicate_and_nan_are_refused() -> None:
    with pytest.raises(ValueError, match="no scores"):
        replicate_mean([])
    with pytest.raises(ValueError, match="NaN"):
        replicate_mean([0.1, math.nan])


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
