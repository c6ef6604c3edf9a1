"""Separations against naive loops, the prior against its own model, intervals by their coverage."""

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from audits.tail.moderation import moderated, shrunk, variance_prior, without_world_effects
from audits.tail.separations import separations, unbiasing
from benchmarks.planted_worlds import planted


def naive_world_effects(scores: list[list[float]], met: list[list[bool]]) -> list[float]:
    means = [statistics.fmean(column) for column in zip(*scores, strict=True)]
    effects = []
    for row, coins in zip(scores, met, strict=True):
        left = [score - mean for score, mean in zip(row, means, strict=True)]
        sides = [
            [x for x, coin in zip(left, coins, strict=True) if coin == side] for side in (0, 1)
        ]
        effects.append((statistics.median(sides[0]) + statistics.median(sides[1])) / 2.0)
    return effects


def test_the_moderated_statistic_equals_a_loop() -> None:
    found = planted(np.random.default_rng(1), 40, 8, 1.0)
    fit = moderated(found)
    effects = naive_world_effects(found.scores.tolist(), found.met.tolist())
    table = found.scores - np.array(effects)[:, None]
    differences, variances = [], []
    for column, coins in zip(table.T, found.met.T, strict=True):
        sides = [[x for x, c in zip(column, coins, strict=True) if c == side] for side in (0, 1)]
        differences.append(statistics.fmean(sides[1]) - statistics.fmean(sides[0]))
        variances.append(sum(statistics.variance(side) for side in sides) / 2.0)
    d0, s0 = variance_prior(np.array(variances), 6)
    both = [(d0 * s0 + 6.0 * variance) / (d0 + 6.0) for variance in variances]
    expected = [d / math.sqrt(v * 2.0 / 4.0) for d, v in zip(differences, both, strict=True)]
    np.testing.assert_allclose(fit.difference, differences, atol=1e-9)
    np.testing.assert_allclose(fit.statistic, expected, atol=1e-8)
    assert fit.degrees == pytest.approx(6.0 + d0)


def test_what_a_world_adds_to_all_records_changes_nothing() -> None:
    found = planted(np.random.default_rng(2), 30, 6, 8.0)
    before = moderated(found).statistic
    found.scores[:] += np.linspace(-50.0, 90.0, 6)[:, None]
    np.testing.assert_allclose(moderated(found).statistic, before, atol=1e-9)


def test_members_far_apart_do_not_pull_a_world_s_effect() -> None:
    """A median of all would follow the side with more records, by half of the separation."""
    found = planted(np.random.default_rng(3), 301, 8, 30.0)
    effects = (found.scores - without_world_effects(found))[:, 0]
    clean = found.scores - 30.0 * found.met
    residual = effects - np.median(clean - clean.mean(axis=0), axis=1)
    assert np.ptp(residual) < 4.0


def test_the_prior_is_recovered_from_variances_that_follow_it() -> None:
    rng = np.random.default_rng(4)
    n, degrees, prior, variance = 40_000, 6, 5.0, 2.5
    true = variance * prior / rng.chisquare(prior, n)
    found = variance_prior(true * rng.chisquare(degrees, n) / degrees, degrees)
    assert found == pytest.approx((prior, variance), rel=0.05)


def test_variances_that_are_alike_are_all_the_prior_s() -> None:
    rng = np.random.default_rng(5)
    own = rng.chisquare(6, 4_000) / 6.0
    d0, s0 = variance_prior(own, 6)
    assert d0 > 100.0
    assert s0 == pytest.approx(1.0, abs=0.03)
    assert shrunk(own, 6, math.inf, 1.5) == pytest.approx(1.5)


def test_a_value_is_unbiased_and_its_interval_covers() -> None:
    rng = np.random.default_rng(6)
    for worlds, separation in ((4, 1.0), (16, 0.0), (16, 3.0)):
        found = separations(planted(rng, 4_000, worlds, separation))
        covered = np.mean((found.lower <= separation) & (separation <= found.upper))
        # Binomial error at 4,000 is 0.0034; the prior is not exactly that of the planted spreads.
        assert 0.935 <= covered <= 0.965
        error = found.value.std() / math.sqrt(4_000)
        assert found.value.mean() == pytest.approx(separation, abs=4.0 * error + 0.02 * separation)


def test_p_values_are_uniform_where_no_record_makes_a_difference() -> None:
    found = separations(planted(np.random.default_rng(7), 3_000, 16))
    assert stats.kstest(found.p_value, "uniform").pvalue > 0.01


def test_the_interval_inverts_the_noncentral_t() -> None:
    found = planted(np.random.default_rng(8), 12, 6, 2.0)
    fit, result = moderated(found), separations(found, 0.9)
    unit = math.sqrt(2.0 / 3.0)
    for t, lower, upper in zip(fit.statistic, result.lower, result.upper, strict=True):
        for end, probability in ((lower, 0.95), (upper, 0.05)):
            assert stats.nct.cdf(t, fit.degrees, end / unit) == pytest.approx(probability, abs=1e-4)


@pytest.mark.parametrize("degrees", [3.0, 14.0, 1e6])
def test_unbiasing_is_the_mean_of_one_over_a_deviation(degrees: float) -> None:
    inverse = stats.chi2(degrees).expect(lambda x: math.sqrt(degrees / x)) if degrees < 1e3 else 1.0
    assert unbiasing(degrees) == pytest.approx(1.0 / inverse, rel=1e-5)


def test_scores_that_do_not_vary_are_refused() -> None:
    found = planted(np.random.default_rng(9), 12, 6)
    found.scores[:] = found.met
    with pytest.raises(ValueError, match="the same in all worlds of the same coin"):
        separations(found)
