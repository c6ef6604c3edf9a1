"""zCDP: its epsilon against the Gaussian mechanism's own, and the budgets that were worked out."""

import math

import pytest
from scipy import optimize, stats

from kdmodules.privacy.concentrated import clipped_mean_rho, epsilon_of, rho_within


def gaussian_epsilon(rho: float, delta: float) -> float:
    """Of the Gaussian mechanism that is rho-zCDP and nothing less (Balle and Wang 2018)."""
    mu = math.sqrt(2.0 * rho)

    def excess(epsilon: float) -> float:
        near, far = stats.norm.cdf([mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu])
        return near - math.exp(epsilon) * far - delta

    return optimize.brentq(excess, 0.0, 60.0)


@pytest.mark.parametrize("rho", [1e-3, 0.05, 0.5, 1.25, 10.0])
@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-9])
def test_is_never_below_the_gaussian_mechanism_and_not_far_above(rho: float, delta: float) -> None:
    truth, found = gaussian_epsilon(rho, delta), epsilon_of(rho, delta)
    assert truth <= found < 1.15 * truth + 0.01
    assert found < rho + 2.0 * math.sqrt(rho * -math.log(delta))  # Bun and Steinke 2016


def test_a_target_is_reached_and_not_passed() -> None:
    for epsilon in (0.1, 1.0, 8.0, 40.0):
        rho = rho_within(epsilon, 1e-5)
        assert epsilon_of(rho, 1e-5) <= epsilon < epsilon_of(1.001 * rho, 1e-5)


@pytest.mark.parametrize(("tokens", "ratio"), [(1_000, 40), (8_800, 120)])
def test_tokens_that_epsilon_8_pays_for(tokens: int, ratio: int) -> None:
    """So many tokens need about as many teachers for each nat of the clip: k / C."""
    rho = rho_within(8.0, 1e-5)
    needed = math.sqrt(2.0 * tokens / rho)
    assert clipped_mean_rho(ratio, 1.0, 1.0) == pytest.approx(2 / ratio**2)
    assert needed == pytest.approx(ratio, rel=0.01)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: epsilon_of(-1.0, 1e-5), "rho is finite"),
        (lambda: epsilon_of(1.0, 0.0), "delta lies in"),
        (lambda: rho_within(0.0, 1e-5), "a target epsilon is positive"),
        (lambda: rho_within(1e9, 1e-5), "a rho above"),
    ],
)
def test_what_has_no_answer_is_refused(call, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()
