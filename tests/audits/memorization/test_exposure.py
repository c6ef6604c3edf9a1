"""Exposure: exact ranks against brute force, extrapolation against exact ranks, chance by law."""

import math

import numpy as np
import pytest
from scipy import stats

from audits.memorization.exposure import (
    CHANCE_BITS,
    Exposure,
    chance_exposure,
    exact_exposure,
    extrapolated_exposure,
    mean_exposure,
)


def ranked(ranks: np.ndarray, space: int) -> list[Exposure]:
    """Canaries of these ranks among all secrets of a space."""
    return [Exposure(math.log2(space / rank), "exact", rank / space) for rank in ranks]


def test_exact_rank_equals_sorting_all_secrets() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=501)
    best_first = sorted(range(501), key=lambda place: -scores[place])
    for place in (0, 17, best_first[0], best_first[-1]):
        found = exact_exposure(scores[place], np.delete(scores, place))
        expected = math.log2(501) - math.log2(best_first.index(place) + 1)
        assert found.bits == pytest.approx(expected, abs=1e-12)
        assert found.method == "exact"


def test_ties_are_broken_by_a_coin() -> None:
    assert exact_exposure(0.0, np.zeros(7)).bits == pytest.approx(3 - math.log2(4.5))
    assert exact_exposure(0.0, [0.0, -1.0, 1.0]).bits == pytest.approx(2 - math.log2(2.5))


@pytest.mark.parametrize("shape", [-4.0, 0.0, 3.0])
def test_extrapolation_is_close_to_the_exact_rank(shape: float) -> None:
    """A space of 200,000 secrets, of which the extrapolation sees 1,000."""
    rng = np.random.default_rng(7)
    space = -stats.skewnorm.rvs(shape, 40.0, 6.0, size=200_000, random_state=rng)
    ordered = np.sort(space)[::-1]
    for rank in (20, 300, 5_000, 100_000):
        secret = ordered[rank - 1]
        exact = exact_exposure(secret, np.delete(ordered, rank - 1)).bits
        sample = rng.choice(space, size=1_000, replace=False)
        found = extrapolated_exposure(float(secret), sample, 200_000)
        assert found.method == "skew_normal_approximation"
        assert found.bits == pytest.approx(exact, rel=0.2, abs=0.15)


def test_extrapolation_reaches_beyond_its_sample_and_stops_at_the_space() -> None:
    sample = np.random.default_rng(1).normal(-50.0, 3.0, size=500)
    beyond = extrapolated_exposure(-50.0 + 3 * 4.5, sample, 10**8).bits
    assert math.log2(500) < beyond < math.log2(10**8)
    assert extrapolated_exposure(0.0, sample, 10**8).bits == math.log2(10**8)
    assert extrapolated_exposure(-500.0, sample, 10**8).bits == pytest.approx(0.0, abs=1e-9)
    scaled = extrapolated_exposure(1e3 * (-50.0 + 3 * 4.5), 1e3 * sample, 10**8).bits
    assert scaled == pytest.approx(beyond, rel=1e-3)


def test_no_distribution_is_fitted_to_nothing() -> None:
    for sample in (np.arange(99.0), np.zeros(200), np.append(np.arange(150.0), -np.inf)):
        with pytest.raises(ValueError, match="skew-normal needs 100"):
            extrapolated_exposure(0.0, sample, 1000)
    with pytest.raises(ValueError, match="not a number"):
        exact_exposure(math.nan, [1.0])


def test_chance_is_the_mean_over_all_ranks() -> None:
    for space in (2, 10, 24_000):
        ranks = np.arange(1, space + 1)
        assert chance_exposure(space) == pytest.approx(np.mean(np.log2(space) - np.log2(ranks)))
    assert chance_exposure(10**8) == pytest.approx(CHANCE_BITS, abs=1e-6)


def test_the_mean_of_canaries_never_met_is_that_of_chance() -> None:
    """600 controls of 20 canaries: intervals cover, and the test rejects 5% at most."""
    rng = np.random.default_rng(3)
    space = 24_000
    found = []
    for _ in range(600):
        ranks = rng.integers(1, space + 1, size=20)
        found.append(mean_exposure(ranked(ranks, space), [space] * 20))
    covered = np.mean([m.lower <= chance_exposure(space) <= m.upper for m in found])
    rejected = np.mean([m.p_value <= 0.05 for m in found])
    # Student's t on twenty skewed values covers about 92%.
    assert covered >= 0.95
    assert 0.025 < rejected < 0.075


def test_the_mean_against_drawn_weights_and_fishers_method() -> None:
    bits, p_values = np.array([0.5, 3.0, 9.0, 14.0]), [0.4, 0.02, 0.001, 0.9]
    canaries = [
        Exposure(float(b), "skew_normal_approximation", p)
        for b, p in zip(bits, p_values, strict=True)
    ]
    found = mean_exposure(canaries, [24_000, 10**6, 24_000, 10**8])
    ceiling, weights = math.log2(10**8), np.random.default_rng(0).dirichlet(np.ones(5), 40_000)
    lower = np.quantile(weights @ np.append(bits, 0.0), 0.025)
    upper = np.quantile(weights @ np.append(bits, ceiling), 0.975)
    assert found.value == pytest.approx(bits.mean())
    assert (found.lower, found.upper) == pytest.approx((lower, upper), abs=0.02 * ceiling)
    fisher = stats.combine_pvalues(p_values, method="fisher").pvalue
    assert found.p_value == pytest.approx(fisher, rel=1e-9)
    full = mean_exposure(ranked(np.ones(3), 1024), [1024] * 3)
    assert full.value == pytest.approx(10.0)
    assert full.lower < 10.0 == pytest.approx(full.upper)
    assert mean_exposure(ranked(np.array([256]), 1024), [1024]).lower is None


def test_the_p_value_is_the_share_of_secrets_at_least_as_likely() -> None:
    """Enumerated: over all secrets of a space as the planted one, ties and all, p is no smaller
    than uniform, and exactly uniform without ties.
    """
    rng = np.random.default_rng(5)
    for space in (rng.standard_t(4, size=200), rng.integers(0, 9, size=200).astype(float)):
        p_values = np.array(
            [exact_exposure(x, np.delete(space, i)).p_value for i, x in enumerate(space)]
        )
        expected = (space[:, None] <= space[None, :]).mean(axis=1)
        np.testing.assert_allclose(p_values, expected)
        for level in np.arange(1, 201) / 200:
            assert (p_values <= level).mean() <= level + 1e-12
    distinct = np.arange(50.0)
    p_values = [exact_exposure(x, np.delete(distinct, i)).p_value for i, x in enumerate(distinct)]
    assert sorted(p_values) == pytest.approx(np.arange(1, 51) / 50)


@pytest.mark.slow
def test_heavy_tails_keep_the_level_where_the_bits_are_an_approximation() -> None:
    """Log-likelihoods that are t with 4 degrees of freedom have a heavier tail than a skew-normal:
    the bits of a secret in that tail say too much, and the test does not read them.
    """
    rng = np.random.default_rng(11)
    sample = rng.standard_t(4, size=1000)
    in_the_tail = float(stats.t.isf(0.004, 4))
    found = extrapolated_exposure(in_the_tail, sample, 10**6)
    assert 2.0**-found.bits < 0.001
    assert found.p_value == pytest.approx((1 + (sample >= in_the_tail).sum()) / 1001)
    assert found.p_value > 0.002

    # 2,000 controls of five canaries each, every one with 1,000 secrets of its own.
    scores = rng.standard_t(4, size=(2000, 5, 1000))
    p_values = (scores >= scores[..., :1]).mean(axis=2)
    assert p_values[0, 0] == exact_exposure(scores[0, 0, 0], scores[0, 0, 1:]).p_value
    means = [mean_exposure(ranked(1000 * own, 1000), [1000] * 5).p_value for own in p_values]
    for level in (0.05, 0.01):
        rejected = int((np.array(means) <= level).sum())
        assert stats.binom.cdf(rejected, 2000, level) < 0.999
        assert rejected > 0.6 * level * 2000
