"""Lower bound on the mu of a Gaussian-private training, out of one run.

Where a training is mu-Gaussian-private, the bound on epsilon at some delta gives most of that
away: the whole trade-off curve is known. The bound here uses it (Mahloujifar, Melis and Chaudhuri
2025, "Auditing f-differential privacy in one run", arXiv 2410.22235).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from audits.statistics.estimates import Estimate, tail_probability
from audits.statistics.one_run_epsilon import right_guesses

_PRECISION = 1e-4
_LARGEST = 40.0


@dataclass(frozen=True)
class MuBound(Estimate):
    """A lower bound on mu; `value` and `lower` are the bound, `upper` is infinite.

    Attributes:
        guesses: Guesses made at the point of the grid that gave the bound.
        correct: How many of them were right.
    """

    guesses: int
    correct: int


def mu_lower_bound(
    members: ArrayLike,
    nonmembers: ArrayLike,
    level: float = 0.95,
    *,
    guesses: Sequence[tuple[int, int]] | None = None,
    seed: int | Sequence[int] | np.random.Generator = 0,
) -> MuBound:
    """Lower bound on mu of the training that these scores came from, out of one run.

    Holds where `epsilon_lower_bound` does: each unit was included by a fair coin of its own, and
    none is left out. The guesses are the same and are paid for alike.

    Args:
        members: [n] scores of the units that were included, higher = more likely included.
        nonmembers: [m - n] scores of the units that were not.
        level: Confidence that the true mu is at least the bound.
        guesses: Pairs (k+, k-) fixed beforehand, as for `epsilon_lower_bound`.
        seed: Key of the order among ties, anything that `numpy.random.default_rng` takes.

    Returns:
        The bound, to 0.0001 and rounded down; 0 where nothing is rejected.

    Raises:
        ValueError: As `epsilon_lower_bound`.
    """
    tail = tail_probability(level)
    counted = right_guesses(members, nonmembers, guesses, seed)
    best = (-1.0, 0, 0)
    for r, v in counted.right:
        bound = _largest_rejected(r, v, counted.units, tail / len(counted.right))
        best = max(best, (bound, r, v))
    n, m = counted.members, counted.units - counted.members
    return MuBound(best[0], best[0], math.inf, n, m, best[1], best[2])


def _largest_rejected(r: int, v: int, m: int, tail: float) -> float:
    """Largest mu under which v of r right guesses have a chance of at most `tail`, or 0."""
    if not rejected(0.0, r, v, m, tail):
        return 0.0
    low, high = 0.0, 1.0
    while high < _LARGEST and rejected(high, r, v, m, tail):
        low, high = high, 2.0 * high
    while high - low > _PRECISION:
        middle = (low + high) / 2.0
        low, high = (middle, high) if rejected(middle, r, v, m, tail) else (low, middle)
    return low


def rejected(mu: float, r: int, v: int, m: int, tail: float) -> bool:
    """Whether v or more of r right guesses have a chance below `tail` under mu-Gaussian privacy.

    Algorithm 3 of the paper for two answers, in and out. It supposes that the chance is `tail` and
    derives, from v right guesses downward, how much of the mass of the guesses each number of right
    ones must then take at least: `wrong` and `right`, of one coin. More than the coin has is a
    contradiction.

    Args:
        mu: At least 0.
        r: Guesses.
        v: Right guesses, at most r.
        m: Units whose inclusion was a fair coin, at least r.
        tail: In (0, 1).
    """
    right, wrong = tail * v / m, tail * (r - v) / m
    for i in range(v - 1, -1, -1):
        if right + wrong > r / m:
            return True
        least = max(wrong, float(special.ndtr(special.ndtri(right) - mu)))
        right += i / (r - i) * (least - wrong)
        wrong = least
    return right + wrong > r / m
