"""Levels of intervals that hold at once: closed forms at both ends, coverage between."""

import numpy as np
import pytest
from scipy import stats

from audits.statistics.simultaneous import bonferroni_level, simultaneous_level


@pytest.mark.parametrize("k", [1, 2, 6])
def test_between_one_figure_and_independent_ones(k: int) -> None:
    assert simultaneous_level(np.ones((k, k))) == pytest.approx(0.95, abs=0.002)
    assert simultaneous_level(np.eye(k)) == pytest.approx(0.95 ** (1 / k), abs=0.001)
    assert bonferroni_level(k, 0.9) == pytest.approx(1 - 0.1 / k)
    half = simultaneous_level(0.5 * np.eye(k) + 0.5)
    assert 0.949 < half <= 0.95 ** (1 / k) + 0.001


def test_intervals_at_this_level_hold_at_once() -> None:
    rng = np.random.default_rng(3)
    root = rng.normal(size=(5, 5)) + 1.0
    covariance = root @ root.T
    deviations = np.sqrt(np.diag(covariance))
    level = simultaneous_level(covariance / np.outer(deviations, deviations))
    z = stats.norm.isf((1 - level) / 2)
    draws = rng.multivariate_normal(np.zeros(5), covariance, size=60_000)
    assert (np.abs(draws) <= z * deviations).all(axis=1).mean() == pytest.approx(0.95, abs=0.004)


def test_a_figure_without_variance_counts_as_independent() -> None:
    matrix = np.array([[1.0, np.nan], [np.nan, np.nan]])
    assert simultaneous_level(matrix) == simultaneous_level(np.eye(2))


def test_what_is_no_correlation_is_refused() -> None:
    with pytest.raises(ValueError, match="square"):
        simultaneous_level(np.ones((2, 3)))
    with pytest.raises(ValueError, match="one interval or more"):
        bonferroni_level(0)
    with pytest.raises(ValueError, match="level"):
        bonferroni_level(3, 1.0)
