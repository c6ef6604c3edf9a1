"""The deconvolution against slow EM, scipy's densities and the binomial likelihood."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from audits.tail.deconvolution import maximised, noncentral_t, shares

DROP = stats.chi2.isf(0.05, 1) / 2.0


@pytest.mark.parametrize("degrees", [4.0, 18.0])
def test_densities_are_the_noncentral_t_s(degrees: float) -> None:
    statistic, centres = np.array([-3.0, 0.0, 0.7, 2.5, 6.0]), np.array([-1.0, 0.0, 1.5, 5.0])
    expected = stats.nct.pdf(statistic[:, None], degrees, centres)
    found = noncentral_t(statistic, degrees, centres)
    np.testing.assert_allclose(found, expected, rtol=0.01, atol=1e-4)


def em(counts: np.ndarray, densities: np.ndarray, sums: np.ndarray, targets: np.ndarray) -> float:
    """Log-likelihood after many steps of expectation and maximisation, within each sum."""
    weights = sums.T @ (targets / sums.sum(axis=1))
    for _ in range(20_000):
        weights = weights * (counts @ (densities / (densities @ weights)[:, None]))
        weights = weights * (sums.T @ (targets / (sums @ weights)))
    return float(counts @ np.log(densities @ weights))


def statistics_of(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(size=70), rng.normal(2.0, 1.4, 20), rng.normal(9.0, 1.0, 4)])


def test_the_likelihood_is_that_of_slow_em() -> None:
    likelihood = shares(statistics_of(41), 18.0, 3.6)
    densities = np.hstack([likelihood.below, likelihood.above])
    m, a = densities.shape[1], likelihood.below.shape[1]
    value, best = likelihood.most_likely
    assert best == pytest.approx(
        em(likelihood.counts, densities, np.ones((1, m)), np.ones(1)), abs=0.02
    )
    sums = np.stack([np.arange(m) < a, np.arange(m) >= a]).astype(float)
    for share in (0.02, 0.1, 0.5):
        slow = em(likelihood.counts, densities, sums, np.array([1.0 - share, share]))
        assert likelihood.log_likelihood(share) == pytest.approx(slow, abs=0.02)
    assert likelihood.log_likelihood(value) == pytest.approx(best, abs=0.02)
    weights, _ = maximised(likelihood.counts, densities, sums, np.array([0.7, 0.3]))
    np.testing.assert_allclose(sums @ weights, [0.7, 0.3], atol=1e-9)
    assert (weights >= 0.0).all()


def test_records_far_on_either_side_have_the_binomial_s_interval() -> None:
    statistic = np.concatenate([np.full(86, -20.0), np.full(14, 40.0)])
    likelihood = shares(statistic, 1e6, 10.0)
    value, _ = likelihood.most_likely
    assert value == pytest.approx(0.14, abs=2e-3)

    def ratio(share: float) -> float:
        gained = 14 * math.log(0.14 / share) + 86 * math.log(0.86 / (1.0 - share))
        return gained - DROP

    expected = optimize.brentq(ratio, 0.01, 0.14), optimize.brentq(ratio, 0.14, 0.9)
    found = [likelihood.bound(end, DROP) for end in (0.0, 1.0)]
    assert found == pytest.approx(expected, abs=2e-3)
    assert likelihood.bound(1.0, 0.0) == pytest.approx(0.14, abs=2e-3)


def test_ends_are_inside_where_the_likelihood_does_not_reject_them() -> None:
    rng = np.random.default_rng(42)
    nothing = shares(rng.normal(size=100), 18.0, 3.6)
    assert nothing.bound(0.0, DROP) == 0.0
    assert 0.0 < nothing.bound(1.0, DROP) < 0.1
    everything = shares(rng.normal(9.0, 1.0, 100), 18.0, 3.6)
    assert 0.9 < everything.bound(0.0, DROP) < 1.0
    assert everything.bound(1.0, DROP) == 1.0
