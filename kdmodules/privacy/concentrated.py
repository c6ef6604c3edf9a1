"""Zero-concentrated differential privacy (Bun and Steinke 2016, arXiv 1605.02065): rho.

A mechanism is rho-zCDP if the Renyi divergence of every order a > 1 between what it says of two
neighbouring data sets is at most rho a. Mechanisms that follow each other, each chosen by what the
earlier ones said, add their rho up.
"""

import math

import numpy as np
from scipy import optimize

_ORDERS = np.expm1(np.linspace(math.log1p(1e-6), math.log1p(1e6), 20_001)) + 1.0
_LARGEST_RHO = 1e4


def epsilon_of(rho: float, delta: float) -> float:
    """Epsilon in nats of a rho-zCDP mechanism at this delta, at least 0.

    The smallest over orders a of rho a + log(1 - 1/a) - (log delta + log a) / (a - 1), each of
    which holds (Canonne, Kamath and Steinke 2020, arXiv 2004.00010).

    Args:
        rho: At least 0 and finite.
        delta: In (0, 1).

    Raises:
        ValueError: A number outside its range.
    """
    if not 0.0 <= rho < math.inf:
        raise ValueError(f"rho is finite and at least 0, found {rho}")
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta lies in (0, 1), found {delta}")
    a = _ORDERS
    at_order = rho * a + np.log1p(-1.0 / a) - (math.log(delta) + np.log(a)) / (a - 1.0)
    return max(0.0, float(at_order.min()))


def rho_within(epsilon: float, delta: float) -> float:
    """The largest rho whose epsilon at this delta is not above a target.

    Args:
        epsilon: In nats, positive.
        delta: In (0, 1).

    Raises:
        ValueError: A target that is not positive, or reached by no rho up to 10,000.
    """
    if not epsilon > 0.0:
        raise ValueError(f"a target epsilon is positive, found {epsilon}")
    if epsilon_of(_LARGEST_RHO, delta) < epsilon:
        raise ValueError(f"epsilon {epsilon} is that of a rho above {_LARGEST_RHO:g}")
    rho = optimize.brentq(
        lambda rho: epsilon_of(rho, delta) - epsilon, 0.0, _LARGEST_RHO, xtol=1e-12
    )
    while epsilon_of(rho, delta) > epsilon:
        rho *= 1.0 - 1e-9
    return float(rho)


def clipped_mean_rho(teachers: int, clip: float, temperature: float) -> float:
    """rho of a token that is drawn from clipped differences to a public model, averaged.

    softmax((phi_public + mean_i clip_C(phi_i - phi_public)) / tau) over k teachers, each of which
    met records of its own: one unit changes the mean by at most 2 C / k at any token, in either
    direction, so that log-probabilities of neighbours differ by values within 4 C / (k tau) of each
    other. A mechanism of bounded range r is (r^2 / 8)-zCDP (Cesar and Rogers 2021, arXiv
    2004.07223): rho = 2 C^2 / (k tau)^2.

    Args:
        teachers: How many (k), at least 1.
        clip: C in nats, positive.
        temperature: tau, positive.
    """
    return 2.0 * (clip / (teachers * temperature)) ** 2
