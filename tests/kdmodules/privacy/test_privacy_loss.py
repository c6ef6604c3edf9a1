"""The accountant against dp-accounting's values, closed forms of Gaussian noise and quadrature."""

import csv
import math

import numpy as np
import pytest
from scipy import integrate, stats

from kdmodules.privacy.privacy_loss import (
    PrivacyLoss,
    SampledGaussian,
    addition_loss,
    epsilon_of,
    noise_for,
    removal_loss,
)
from tests.kdmodules.privacy.oracle import ORACLE

with ORACLE.open() as file:
    KNOWN = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: f"sigma {known['noise']:g}")
def test_epsilon_is_never_below_the_oracle_and_at_most_one_percent_above(known):
    training = SampledGaussian(known["rate"], known["noise"], int(known["steps"]))
    ratio = epsilon_of(training, known["delta"]) / known["epsilon"]
    assert 1.0 <= ratio <= 1.01


@pytest.mark.parametrize("direction", [removal_loss, addition_loss])
def test_unsampled_noise_has_the_power_and_delta_of_two_normal_distributions(direction):
    mu = math.sqrt(9) / 2.0
    loss = direction(SampledGaussian(1.0, 2.0, 9))
    for level in (1e-6, 1e-3, 0.2, 0.7, 0.999):
        exact = stats.norm.sf(stats.norm.isf(level) - mu)
        assert exact <= loss.power(level) <= exact + 1e-4
    for epsilon in (0.0, 1.0, 4.0):
        exact = stats.norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * stats.norm.cdf(
            -mu / 2 - epsilon / mu
        )
        assert exact <= loss.delta(epsilon) <= exact * 1.001 + 1e-9


@pytest.mark.parametrize(("direction", "took_part"), [(removal_loss, True), (addition_loss, False)])
def test_delta_of_two_sampled_steps_is_their_double_integral(direction, took_part):
    rate, noise, epsilon = 0.3, 1.1, 0.4

    def out(x):
        return stats.norm.pdf(x, 0.0, noise)

    def within(x):
        return rate * stats.norm.pdf(x, 1.0, noise) + (1 - rate) * out(x)

    p, q = (within, out) if took_part else (out, within)
    grid = np.linspace(-9 * noise, 1 + 9 * noise, 3001)
    from_p, from_q = np.outer(p(grid), p(grid)), np.outer(q(grid), q(grid))
    inner = integrate.simpson(np.maximum(from_p - math.exp(epsilon) * from_q, 0.0), x=grid)
    exact = integrate.simpson(inner, x=grid)
    found = direction(SampledGaussian(rate, noise, 2)).delta(epsilon)
    assert exact * (1 - 1e-4) <= found <= exact * 1.01


def test_noise_for_a_target_spends_no_more_and_hardly_less():
    noise = noise_for(8.0, 1000**-1.1, 0.256, 78)
    spent = epsilon_of(SampledGaussian(0.256, noise, 78), 1000**-1.1)
    assert 8.0 * 0.995 <= spent <= 8.0


def test_epsilon_is_infinite_where_mass_without_a_counterpart_exceeds_delta():
    loss = PrivacyLoss(step=0.1, first=0, masses=np.array([0.6, 0.3]), infinite=0.1)
    assert loss.epsilon(0.05) == math.inf
    assert loss.delta(0.0) == pytest.approx(0.1 + 0.3 * -math.expm1(-0.1))
    assert loss.epsilon(0.2) == 0.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((0.0, 1.0, 1), "rate"), ((0.5, math.nan, 1), "noise"), ((0.5, 1.0, 0), "step")],
)
def test_impossible_training_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        SampledGaussian(*arguments)


def test_unreachable_target_is_refused():
    with pytest.raises(ValueError, match="no noise"):
        noise_for(1e-6, 1e-9, 1.0, 100)
