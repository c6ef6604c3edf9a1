"""Reliability against split halves and a known ratio; the interval of an AUROC over draws."""

import itertools

import numpy as np
import pytest
from scipy import stats

from audits.statistics import auroc, auroc_over_draws, reliability

RNG = np.random.default_rng


def test_is_the_mean_of_all_split_halves() -> None:
    draws = RNG(0).normal(size=(30, 1)) + RNG(1).normal(size=(30, 6))
    halves = []
    for chosen in itertools.combinations(range(6), 3):
        a = draws[:, list(chosen)].sum(axis=1)
        b = draws[:, [k for k in range(6) if k not in chosen]].sum(axis=1)
        covariance = np.mean((a - a.mean()) * (b - b.mean())) * 30 / 29
        halves.append(4 * covariance / (a + b).var(ddof=1))  # Flanagan 1937, Rulon 1939
    assert reliability(draws) == pytest.approx(np.mean(halves), rel=1e-12)


def test_is_spearman_brown_of_the_mean_reliability_of_a_draw() -> None:
    draws = RNG(0).normal(size=(30, 1)) + RNG(1).normal(size=(30, 5))
    pairs = itertools.combinations(range(5), 2)
    covariance = np.mean([np.cov(draws[:, i], draws[:, j])[0, 1] for i, j in pairs])
    one = covariance / draws.var(axis=0, ddof=1).mean()
    assert reliability(draws) == pytest.approx(5 * one / (1 + 4 * one), rel=1e-12)


@pytest.mark.parametrize(("noise", "k"), [(0.5, 2), (1.0, 5), (3.0, 10)])
def test_recovers_the_share_of_the_records(noise: float, k: int) -> None:
    n = 40_000
    draws = RNG(2).normal(size=(n, 1)) + noise * RNG(3).normal(size=(n, k))
    assert reliability(draws) == pytest.approx(1 / (1 + noise**2 / k), abs=0.01)


def test_shifts_of_whole_draws_do_not_count_and_scale_does_not_either() -> None:
    draws = RNG(0).normal(size=(30, 1)) + RNG(1).normal(size=(30, 5))
    shifted = 1e-3 * (draws + 10 * RNG(4).normal(size=(1, 5)))
    assert reliability(shifted) == pytest.approx(reliability(draws), rel=1e-9)


def test_ends_of_the_scale() -> None:
    column = RNG(0).normal(size=(30, 1))
    assert reliability(np.repeat(column, 4, axis=1)) == pytest.approx(1.0)
    assert reliability(RNG(1).normal(size=(20_000, 5))) == pytest.approx(0.0, abs=0.06)
    assert np.isnan(reliability(np.ones((5, 3))))
    assert np.isnan(reliability(np.hstack([column, -column])))
    assert np.isnan(reliability([[1.0, 2.0]]))
    assert np.isnan(reliability([[1.0, np.inf], [1.0, 2.0]]))


@pytest.mark.parametrize("draws", [[[1.0], [2.0]], [1.0, 2.0], [[1.0, np.nan], [1.0, 2.0]]])
def test_what_is_no_table_of_draws_is_refused(draws: list[float]) -> None:
    with pytest.raises(ValueError, match="draws"):
        reliability(draws)


def test_without_variation_between_draws_the_interval_is_that_of_records() -> None:
    x, y = RNG(0).normal(1, 1, size=(40, 1)), RNG(1).normal(size=(50, 1))
    found = auroc_over_draws(np.repeat(x, 3, axis=1), np.repeat(y, 3, axis=1))
    assert found == auroc(x[:, 0], y[:, 0])


def test_the_interval_covers_where_draws_shift_members_against_nonmembers() -> None:
    """A draw moves all members by one amount; the interval of records alone misses that."""
    rng, n, k, hits, plain = RNG(7), 200, 5, 0, 0
    truth = stats.norm.cdf(1 / np.sqrt(2 * (1 + 0.3**2 / k)))  # at a mean shift of 0
    for _ in range(400):
        shift = rng.normal(0, 0.6, size=(1, k))
        members = rng.normal(1, 1, size=(n, 1)) + shift + rng.normal(0, 0.3, size=(n, k))
        nonmembers = rng.normal(0, 1, size=(n, 1)) + rng.normal(0, 0.3, size=(n, k))
        found = auroc_over_draws(members, nonmembers)
        hits += found.lower <= truth <= found.upper
        alone = auroc(members.mean(axis=1), nonmembers.mean(axis=1))
        plain += alone.lower <= truth <= alone.upper
    assert hits / 400 > 0.92
    assert plain / 400 < 0.85


def test_clusters_widen_it_and_separated_sides_keep_a_width() -> None:
    x, y = RNG(0).normal(0.5, 1, size=(40, 3)), RNG(1).normal(size=(40, 3))
    clusters = np.arange(40) // 8
    wide = auroc_over_draws(x, y, member_clusters=clusters, nonmember_clusters=clusters + 9)
    assert wide.value == auroc_over_draws(x, y).value
    apart = auroc_over_draws(x + 100, y)
    assert apart.upper == 1.0
    assert 0.8 < apart.lower < 1.0


@pytest.mark.parametrize("shape", [(5, 3), (0, 2)])
def test_sides_that_do_not_fit_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        auroc_over_draws(np.zeros(shape), np.zeros((5, 2)))
