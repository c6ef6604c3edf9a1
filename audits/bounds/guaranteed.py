"""The power that a run's guarantee leaves to any test."""

from functools import lru_cache

from audits.bounds.ceilings import Power, approximate_power, gaussian_power
from common.guarantee import Guarantee
from kdmodules.privacy.privacy_loss import SampledGaussian, removal_loss


@lru_cache(maxsize=8)
def guaranteed_power(guarantee: Guarantee) -> Power | None:
    """Returns the highest power of a test of "the unit took part"; None where none is guaranteed.

    The curve of the noised sums where their rate, noise and steps are known; else that of mu, else
    that of epsilon and delta, which lies above both.
    """
    if not guarantee.holds:
        return None
    rate, noise, steps = guarantee.rate, guarantee.noise, guarantee.steps
    if rate is not None and noise is not None and steps is not None:
        return removal_loss(SampledGaussian(rate, noise, steps)).power
    if guarantee.mu is not None:
        return gaussian_power(guarantee.mu)
    if guarantee.epsilon is None:
        return None
    return approximate_power(guarantee.epsilon, guarantee.delta or 0.0)
