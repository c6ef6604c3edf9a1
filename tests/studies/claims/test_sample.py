"""Contrasts, bounds and tests of equality against scipy and plain sums."""

import numpy as np
import pytest
from scipy import stats

from studies.claims.sample import Contrast, Sample, largest_contrasts

VALUES = np.random.default_rng(3).normal(size=(6, 4)) + [0.0, 0.5, 1.0, 3.0]
NAMES = ("a", "b", "c", "d")


@pytest.fixture
def sample() -> Sample:
    return Sample.of_replicates(NAMES, VALUES)


def test_a_contrast_is_a_paired_t_test(sample: Sample) -> None:
    found = sample.contrast({"d": 1.0, "a": -0.5, "b": -0.5})
    differences = VALUES[:, 3] - (VALUES[:, 0] + VALUES[:, 1]) / 2
    for side, p_value in (("greater", found.p_above(0.2)), ("less", found.p_below(0.2))):
        reference = stats.ttest_1samp(differences, 0.2, alternative=side)
        assert p_value == pytest.approx(reference.pvalue, rel=1e-9)
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.9)
    assert found.bounds() == pytest.approx((interval.low, interval.high))
    assert found.p_zero() == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)


def test_equality_over_replicates_is_the_two_way_f_test(sample: Sample) -> None:
    r, k = VALUES.shape
    grand = sum(float(one) for one in VALUES.ravel()) / (r * k)
    rows = [sum(VALUES[i]) / k for i in range(r)]
    columns = [sum(VALUES[:, j]) / r for j in range(k)]
    between = sum(r * (one - grand) ** 2 for one in columns) / (k - 1)
    rest = sum(
        (VALUES[i, j] - rows[i] - columns[j] + grand) ** 2 for i in range(r) for j in range(k)
    )
    f = between / (rest / ((k - 1) * (r - 1)))
    assert sample.p_equal() == pytest.approx(stats.f.sf(f, k - 1, (k - 1) * (r - 1)))


def test_two_columns_over_replicates_are_a_paired_t_test() -> None:
    values = VALUES[:, 1:3]
    found = Sample.of_replicates(("b", "c"), values).p_equal()
    assert found == pytest.approx(stats.ttest_rel(values[:, 0], values[:, 1]).pvalue)


def test_what_all_columns_share_does_not_count(sample: Sample) -> None:
    shifted = Sample.of_replicates(NAMES, VALUES + 5 * np.arange(6)[:, None])
    assert shifted.p_equal() == pytest.approx(sample.p_equal())
    both = (one.contrast({"c": 1.0, "a": -1.0}) for one in (sample, shifted))
    assert next(both).error == pytest.approx(next(both).error)


def test_over_records_two_columns_are_a_normal_test() -> None:
    covariance = np.array([[0.04, 0.01], [0.01, 0.09]])
    sample = Sample(("a", "b"), np.array([0.5, 1.1]), covariance, np.inf, None)
    z = 0.6 / (0.04 + 0.09 - 0.02) ** 0.5
    assert sample.p_equal() == pytest.approx(2 * stats.norm.sf(z))
    difference = sample.contrast({"b": 1.0, "a": -1.0})
    assert difference.p_above(0.0) == pytest.approx(stats.norm.sf(z))
    assert sample.contrast({"a": 1.0}).bounds()[1] == pytest.approx(0.5 + 1.6448536 * 0.2)


def test_the_smallest_visible_effect_is_found_in_eight_of_ten_draws() -> None:
    contrast = Contrast(0.0, 1.0, 4.0)
    draws = np.random.default_rng(0).normal(size=(40_000, 5)) * 5**0.5 + contrast.mde()
    t = draws.mean(axis=1) / (draws.std(axis=1, ddof=1) / 5**0.5)
    assert (t > stats.t.isf(0.05, 4)).mean() == pytest.approx(0.8, abs=0.01)


def test_replicates_that_all_agree_are_certain() -> None:
    sample = Sample.of_replicates(("a", "b"), np.tile([1.0, 0.5], (5, 1)))
    assert sample.contrast({"a": 1.0}).p_above(0.5) == 0.0
    assert sample.contrast({"b": 1.0}).p_above(0.5) == 1.0
    assert sample.contrast({"a": 1.0}).mde() == 0.0
    assert sample.p_equal() == 0.0


def test_contrasts_come_the_largest_first(sample: Sample) -> None:
    found = largest_contrasts(sample)
    assert len(found) == 12
    assert next(iter(found)) == (
        NAMES[int(VALUES.mean(axis=0).argmax())],
        NAMES[int(VALUES.mean(axis=0).argmin())],
    )


def test_one_replicate_is_no_sample() -> None:
    with pytest.raises(ValueError, match="two complete replicates"):
        Sample.of_replicates(("a",), np.ones((1, 1)))
