"""Ceilings against simulated worst cases, enumeration and closed forms."""

import math

import numpy as np
import pytest
from scipy import integrate, stats
from sklearn.metrics import roc_auc_score

from audits.bounds.ceilings import (
    accuracy_ceiling,
    approximate_power,
    auroc_ceiling,
    gaussian_equivalent,
    gaussian_power,
    group_delta,
    group_power,
    tpr_ceiling,
)
from kdmodules.privacy.privacy_loss import SampledGaussian, removal_loss


def test_auroc_ceiling_with_few_units_lies_below_the_power_at_a_half():
    assert auroc_ceiling(gaussian_power(1.0), 5) == pytest.approx(0.794, abs=5e-4)
    assert gaussian_power(1.0)(0.5) == pytest.approx(0.841, abs=5e-4)


def test_auroc_ceiling_tends_to_the_area_under_the_power():
    area, _ = integrate.quad(gaussian_power(1.0), 0.0, 1.0)
    assert auroc_ceiling(gaussian_power(1.0), 2_000) == pytest.approx(area, abs=5e-4)
    assert area == pytest.approx(stats.norm.cdf(1 / math.sqrt(2)))


def test_two_units_that_share_one_noise_reach_the_ceiling_of_one_nonmember():
    """One unit moves the release by +mu, the other by -mu: scores x and -x reach Phi(mu)."""
    mu, runs = 1.0, 200_000
    coin = np.random.default_rng(0).integers(0, 2, runs) * 2 - 1
    release = coin * mu + np.random.default_rng(1).normal(size=runs)
    reached = np.mean(coin * release > 0)
    assert reached == pytest.approx(stats.norm.cdf(mu), abs=0.003)
    assert auroc_ceiling(gaussian_power(mu), 1) == pytest.approx(stats.norm.cdf(mu))
    # The area under the power, which knows nothing of m, would have been exceeded.
    assert reached > stats.norm.cdf(mu / math.sqrt(2)) + 0.05


def test_two_opposed_clusters_exceed_a_ceiling_that_counts_records():
    """Of fifty copies a cluster, m = 50 would promise less than the opposed pair reaches."""
    reached = stats.norm.cdf(1.0)
    assert auroc_ceiling(gaussian_power(1.0), 50) < reached - 0.05
    assert auroc_ceiling(gaussian_power(1.0), 1) >= reached - 1e-12


def test_attack_on_a_noisy_sum_stays_below_the_ceiling_in_expectation():
    """Orthogonal gradients, one noisy release: scores are independent and the bound is tight."""
    mu, members, nonmembers = 1.0, 30, 30
    rng = np.random.default_rng(3)
    labels = np.r_[np.ones(members), np.zeros(nonmembers)]
    aurocs = [roc_auc_score(labels, rng.normal(mu * labels)) for _ in range(400)]
    mean, error = np.mean(aurocs), np.std(aurocs) / 20
    ceiling = auroc_ceiling(gaussian_power(mu), nonmembers)
    assert mean <= ceiling + 2 * error
    assert mean >= ceiling - 0.02


def test_tpr_ceiling_pays_for_the_threshold_that_the_scores_set():
    power = gaussian_power(1.0)
    assert tpr_ceiling(power, 0, 99) == power(0.01)
    rng = np.random.default_rng(4)
    found = [rng.normal(1.0) > rng.normal(size=99).max() for _ in range(20_000)]
    assert np.mean(found) <= tpr_ceiling(power, 0, 99) + 2 * np.std(found) / math.sqrt(20_000)


@pytest.mark.parametrize(
    ("rate", "noise", "steps", "auroc", "tpr", "mu"),
    [
        (0.256, 1.33, 78, 0.895, 0.32, 1.99),
        (0.256, 2.13, 78, 0.778, 0.11, 1.17),
    ],
)
def test_reference_values(rate, noise, steps, auroc, tpr, mu):
    loss = removal_loss(SampledGaussian(rate, noise, steps))
    assert auroc_ceiling(loss.power, 2_000) == pytest.approx(auroc, abs=1e-3)
    assert loss.power(0.01) == pytest.approx(tpr, abs=5e-3)
    assert gaussian_equivalent(loss) == pytest.approx(mu, abs=5e-3)


def test_gaussian_equivalent_of_unsampled_noise_is_its_own():
    loss = removal_loss(SampledGaussian(1.0, 2.0, 4))
    assert 1.0 <= gaussian_equivalent(loss) <= 1.001


@pytest.mark.parametrize("level", [0.0, 0.01, 0.3, 0.9, 1.0])
def test_power_of_an_epsilon_and_delta_is_that_of_its_worst_mechanism(level):
    """Randomised response with failure: three outcomes below, enumerated as the best test."""
    epsilon, delta = 1.2, 0.05
    keep = (1 - delta) * math.exp(epsilon) / (1 + math.exp(epsilon))
    p = np.array([delta, keep, 1 - delta - keep, 0.0])
    q = np.array([0.0, 1 - delta - keep, keep, delta])
    corners = np.cumsum(np.r_[0.0, q]), np.cumsum(np.r_[0.0, p])
    expected = delta if level == 0.0 else np.interp(level, *corners)
    assert approximate_power(epsilon, delta)(level) == pytest.approx(expected)


def test_power_of_a_huge_epsilon_is_one():
    assert approximate_power(1e4, 0.0)(0.01) == 1.0


def test_groups():
    assert group_power(gaussian_power(0.5), 3)(0.1) == pytest.approx(gaussian_power(1.5)(0.1))
    epsilon, delta = 2.0, 1e-4
    closed_form = delta * math.expm1(3 * epsilon) / math.expm1(epsilon)
    assert group_delta(epsilon, delta, 3) == pytest.approx(closed_form)
    assert group_delta(8.0, 1000**-1.1, 2) == pytest.approx(1.49, abs=0.01)
    assert group_delta(0.0, 0.1, 4) == pytest.approx(0.4)
    # A person's curve from (epsilon, delta) applied twice is never above the formula's.
    twice = group_power(approximate_power(epsilon, delta), 2)
    formula = approximate_power(2 * epsilon, group_delta(epsilon, delta, 2))
    assert all(twice(a) <= formula(a) + 1e-12 for a in np.linspace(0, 1, 101))


def test_accuracy_ceiling():
    assert accuracy_ceiling(1e6 * 2**-32) == pytest.approx(0.5108, abs=1e-4)
    assert accuracy_ceiling(210_000 * 2**-32) == pytest.approx(0.5049, abs=1e-4)
    assert accuracy_ceiling(0.0) == pytest.approx(0.5)
    assert accuracy_ceiling(math.log(2.0)) == 1.0
    # A symmetric binary channel with 10% errors: its capacity allows exactly its accuracy.
    capacity = math.log(2.0) - stats.entropy([0.1, 0.9])
    assert accuracy_ceiling(capacity) == pytest.approx(0.9)


@pytest.mark.parametrize(
    "call",
    [
        lambda: gaussian_power(-1.0),
        lambda: approximate_power(-1.0, 0.0),
        lambda: approximate_power(1.0, 1.5),
        lambda: tpr_ceiling(gaussian_power(1.0), 3, 2),
        lambda: auroc_ceiling(gaussian_power(1.0), 0),
        lambda: group_delta(1.0, 0.1, 0),
        lambda: accuracy_ceiling(-0.1),
    ],
)
def test_impossible_arguments_are_refused(call):
    with pytest.raises(ValueError, match="found"):
        call()
