"""What no attack can exceed, in expectation, on a model trained with differential privacy.

The theorem, its proof and what it does not cover stand in docs/defences.md.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy import optimize, stats

from kdmodules.privacy.privacy_loss import PrivacyLoss

Power = Callable[[float], float]
"""From a false positive rate, the highest true positive rate of any test: concave, in [0, 1]."""

SMALLEST_LEVEL = 1e-6
_LARGEST_EXPONENT = 700.0


def gaussian_power(mu: float) -> Power:
    """Power against a mu-Gaussian-private mechanism (Dong, Roth and Su 2022).

    Args:
        mu: Distance of two unit normal distributions that are as hard to tell apart; at least 0.
    """
    if not (mu >= 0.0 and math.isfinite(mu)):
        raise ValueError(f"mu is finite and at least 0, found {mu}")
    return lambda level: float(stats.norm.sf(stats.norm.isf(level) - mu))


def approximate_power(epsilon: float, delta: float) -> Power:
    """Power against a mechanism of which only (epsilon, delta) is known (Kairouz et al. 2015).

    Args:
        epsilon: In nats, at least 0.
        delta: In [0, 1].
    """
    if not epsilon >= 0.0:
        raise ValueError(f"epsilon is at least 0, found {epsilon}")
    if not 0.0 <= delta <= 1.0:
        raise ValueError(f"delta lies in [0, 1], found {delta}")

    def power(level: float) -> float:
        near_zero = math.exp(min(epsilon, _LARGEST_EXPONENT)) * level + delta
        return min(1.0, near_zero, 1.0 - math.exp(-epsilon) * (1.0 - delta - level))

    return power


def tpr_ceiling(power: Power, admitted: int, nonmembers: int) -> float:
    """Highest expected TPR of an attack that is allowed so many false accusations.

    Args:
        power: Of the teacher's training, in the direction that a unit took part.
        admitted: False accusations that the threshold admits (k), fixed beforehand.
        nonmembers: Units that did not take part (m), one score each.

    Returns:
        power((k + 1) / (m + 1)).
    """
    if not 0 <= admitted <= nonmembers or nonmembers < 1:
        raise ValueError(
            f"expected 0 to {nonmembers} false accusations among at least one unit that did not "
            f"take part, found {admitted} among {nonmembers}"
        )
    return power((admitted + 1) / (nonmembers + 1))


def auroc_ceiling(power: Power, nonmembers: int) -> float:
    """Highest expected AUROC of one run's attack on units: (1/m) sum_{k=1}^m power(k / (m + 1)).

    Args:
        power: Of the teacher's training, in the direction that a unit took part.
        nonmembers: Units that did not take part (m), one score each.
    """
    if nonmembers < 1:
        raise ValueError(f"an AUROC needs a unit that did not take part, found {nonmembers}")
    levels = np.arange(1, nonmembers + 1) / (nonmembers + 1)
    return float(np.mean([power(level) for level in levels]))


def gaussian_equivalent(loss: PrivacyLoss, smallest_level: float = SMALLEST_LEVEL) -> float:
    """The smallest mu whose Gaussian mechanism is at least as easy to attack at every level read.

    Of sampled noise no mu holds at all levels but the unsampled one, so the levels have an end:
    false positive rates from `smallest_level` to one less it.

    Args:
        loss: Of the training.
        smallest_level: In (0, 0.5).

    Returns:
        The largest distance of normal quantiles over the corners of the curve, at least 0.
    """
    if not 0.0 < smallest_level < 0.5:
        raise ValueError(f"the smallest level lies in (0, 0.5), found {smallest_level}")
    levels, powers = loss.operating_points
    read = (levels >= smallest_level) & (levels <= 1.0 - smallest_level)
    ends = np.array([smallest_level, 1.0 - smallest_level])
    levels = np.concatenate([levels[read], ends])
    powers = np.concatenate([powers[read], [loss.power(end) for end in ends]])
    return max(0.0, float(np.max(stats.norm.isf(levels) - stats.norm.isf(powers))))


def group_delta(epsilon: float, delta: float, records: int) -> float:
    """Delta at `records` times epsilon of somebody whose records lie in so many units.

    delta (e^{r epsilon} - 1) / (e^epsilon - 1); from 1 on it says nothing. Copies that share a
    unit count once.

    Args:
        epsilon: Of one unit, in nats, at least 0.
        delta: Of one unit, in [0, 1].
        records: Units that hold the person's records (r), at least 1.
    """
    if records < 1:
        raise ValueError(f"a person has at least one record, found {records}")
    if epsilon == 0.0 or delta == 0.0:
        return records * delta
    # The ratio as a sum of powers: no overflow before the value itself is beyond 1.
    return float(delta * np.exp(np.minimum(epsilon * np.arange(records), _LARGEST_EXPONENT)).sum())


def group_power(power: Power, records: int) -> Power:
    """Power against somebody whose records lie in so many units: the curve applied r times."""
    if records < 1:
        raise ValueError(f"a person has at least one record, found {records}")

    def repeated(level: float) -> float:
        for _ in range(records):
            level = power(level)
        return level

    return repeated


def accuracy_ceiling(nats_per_unit: float) -> float:
    """Highest expected share of coins that anybody guesses right who was told so little of each.

    The p in [1/2, 1] with ln 2 + p ln p + (1 - p) ln(1 - p) = nats (Fano's inequality for fair
    coins); 1 from ln 2 nats on.

    Args:
        nats_per_unit: Mutual information between the coins and all that was released, per coin, in
            nats; at least 0.
    """
    if not nats_per_unit >= 0.0:
        raise ValueError(f"information is at least 0 nats, found {nats_per_unit}")
    if nats_per_unit >= math.log(2.0):
        return 1.0

    def excess(p: float) -> float:
        return stats.entropy([p, 1.0 - p], [0.5, 0.5]) - nats_per_unit

    return float(optimize.brentq(excess, 0.5, 1.0, xtol=1e-15))
