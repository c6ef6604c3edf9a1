"""Contrasts, bounds and tests of equality against scipy and plain sums."""

import numpy as np
import pytest
from scipy import stats

from studies.claims.sample import Contrast, Sample, largest_contrasts, untestable

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


def test_equality_over_replicates_is_the_two_way_f_test_with_boxs_degrees(sample: Sample) -> None:
    r, k = VALUES.shape
    grand = sum(float(one) for one in VALUES.ravel()) / (r * k)
    rows = [sum(VALUES[i]) / k for i in range(r)]
    columns = [sum(VALUES[:, j]) / r for j in range(k)]
    between = sum(r * (one - grand) ** 2 for one in columns) / (k - 1)
    rest = sum(
        (VALUES[i, j] - rows[i] - columns[j] + grand) ** 2 for i in range(r) for j in range(k)
    )
    f = between / (rest / ((k - 1) * (r - 1)))
    # Greenhouse and Geisser's formula, on the covariance of the columns.
    s = np.cov(VALUES, rowvar=False)
    numerator = k**2 * (np.trace(s) / k - s.mean()) ** 2
    squares = (s**2).sum() - 2 * k * (s.mean(axis=1) ** 2).sum() + k**2 * s.mean() ** 2
    epsilon = numerator / ((k - 1) * squares)
    assert 1 / (k - 1) < epsilon < 1
    expected = stats.f.sf(f, epsilon * (k - 1), epsilon * (k - 1) * (r - 1))
    assert sample.p_equal() == pytest.approx(expected)


@pytest.mark.parametrize("spread", [1.0, 10.0])
def test_equality_holds_its_size_where_columns_vary_unequally(spread: float) -> None:
    """One of six techniques varies ten times as much: the plain F test rejects in 16%."""
    rng = np.random.default_rng(4)
    errors = np.array([spread, *[1.0] * 5])
    found = []
    for _ in range(1500):
        values = rng.normal(size=(5, 1)) + errors * rng.normal(size=(5, 6))
        found.append(Sample.of_replicates(tuple("abcdef"), values).p_equal())
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 2 * (0.05 * 0.95 / 1500) ** 0.5


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


def test_replicates_that_all_agree_prove_nothing() -> None:
    """0.1 + 0.2 five times over: what rounding leaves is no variance either."""
    sample = Sample.of_replicates(("a", "b"), np.tile([0.1 + 0.2, 0.7], (5, 1)))
    for one in (sample.contrast({"a": 1.0}), sample.contrast({"b": 1.0, "a": -1.0})):
        assert not one.testable
        assert one.p_above(-5.0) == one.p_below(5.0) == one.p_zero() == 1.0
        assert one.bounds() == (-np.inf, np.inf)
        assert one.mde() == np.inf
        assert "no variance" in one.text()
    assert sample.p_equal() == 1.0
    assert "not computable of a" in untestable({"a": sample.contrast({"a": 1.0})})
    assert untestable({"b": Contrast(0.3, 0.1, 4.0)}) == ""


def test_a_constant_difference_of_columns_that_vary_has_no_variance() -> None:
    values = np.column_stack([VALUES[:, 0], VALUES[:, 0] + 0.2])
    sample = Sample.of_replicates(("a", "b"), values)
    assert sample.contrast({"a": 1.0}).testable
    assert not sample.contrast({"b": 1.0, "a": -1.0}).testable
    assert sample.p_equal() == 1.0


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
