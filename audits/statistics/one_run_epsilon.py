"""Lower bounds on a mechanism's epsilon from one training run, and a descriptive equivalent."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

from audits.statistics.estimates import Estimate, as_scores, tail_probability

_GRID_SHARES = (0.02, 0.1, 0.5)


@dataclass(frozen=True)
class EpsilonBound(Estimate):
    """A lower bound on epsilon; `value` and `lower` are the bound, `upper` is infinite.

    Attributes:
        delta: The delta that the bound is for.
        guesses: Guesses made at the point of the grid that gave the bound.
        correct: How many of them were right.
    """

    delta: float
    guesses: int
    correct: int


def epsilon_equivalent(tpr: float, fpr: float) -> float:
    """Epsilon of a randomised response with this TPR and FPR: descriptive, never a bound.

    The smallest epsilon at which pure differential privacy still allows the point:
    max(0, ln(TPR/FPR), ln((1 - FPR)/(1 - TPR))) (Kairouz et al. 2015, theorem 2.1, delta 0). An
    attack below the diagonal gives 0: it is not flipped.

    Args:
        tpr: True positive rate, in [0, 1].
        fpr: False positive rate, in [0, 1].

    Returns:
        Epsilon in nats, infinite where members are caught and no non-member, or all members.

    Raises:
        ValueError: A rate outside [0, 1].
    """
    if not (0.0 <= tpr <= 1.0 and 0.0 <= fpr <= 1.0):
        raise ValueError(f"expected rates between 0 and 1, found tpr {tpr}, fpr {fpr}")
    if tpr <= fpr:
        return 0.0
    if fpr == 0.0 or tpr == 1.0:
        return math.inf
    return max(math.log(tpr / fpr), math.log((1.0 - fpr) / (1.0 - tpr)))


def epsilon_lower_bound(
    members: ArrayLike,
    nonmembers: ArrayLike,
    delta: float = 0.0,
    level: float = 0.95,
    *,
    guesses: Sequence[tuple[int, int]] | None = None,
    seed: int | Sequence[int] | np.random.Generator = 0,
) -> EpsilonBound:
    """Lower bound on epsilon of the training that these scores came from, out of one run.

    Valid only where each of the m = n_members + n_nonmembers units was included by its own fair
    coin (canaries; whole clusters of a coin-flipped pool), each counted here once and none left
    out. A fixed or stratified split, or a record repeated r times (a group: r * epsilon), gives
    no bound.

    The k+ highest scores are guessed "in", the k- lowest "out" and the rest left alone. With v of
    r = k+ + k- guesses right, epsilon is rejected where
    P[B >= v] + 2 m delta max_{1<=i<=v} P[v > B >= v - i]/i <= (1 - level)/G,
    B ~ Binomial(r, e^eps/(1 + e^eps)) (Steinke, Nasr and Jagielski 2023, theorem 5.2). The bound
    is the largest epsilon rejected over the G pairs (k+, k-), which are fixed before the scores
    are seen and whose number is paid for (Bonferroni). Ties are broken by a keyed permutation.

    Args:
        members: [n] scores of the units that were included, higher = more likely included.
        nonmembers: [m - n] scores of the units that were not.
        delta: The delta of the guarantee under test, in [0, 1).
        level: Confidence that the true epsilon is at least the bound.
        guesses: Pairs (k+, k-) fixed beforehand. By default 2%, 10% and 50% of m as k+, each with
            k- = k+ and k- = 0. A single pair pays for no multiplicity.
        seed: Key of the order among ties, anything that `numpy.random.default_rng` takes.

    Returns:
        The bound in nats, 0 where nothing is rejected.

    Raises:
        ValueError: Empty scores, NaN, a delta or level out of range, or pairs that guess nothing
            or more than m units.
    """
    tail = tail_probability(level)
    if not 0.0 <= delta < 1.0:
        raise ValueError(f"delta: expected a number in [0, 1), found {delta}")
    counted = right_guesses(members, nonmembers, guesses, seed)
    best = (-1.0, 0, 0)
    for r, v in counted.right:
        bound = _largest_rejected(r, v, counted.units, delta, tail / len(counted.right))
        best = max(best, (bound, r, v))
    n, m = counted.members, counted.units - counted.members
    return EpsilonBound(best[0], best[0], math.inf, n, m, delta, best[1], best[2])


@dataclass(frozen=True)
class RightGuesses:
    """How many guesses of fair coins were right.

    Attributes:
        members: Units that were included.
        units: All units (m).
        right: For each pair of the grid, its guesses and how many of them were right.
    """

    members: int
    units: int
    right: Sequence[tuple[int, int]]


def right_guesses(
    members: ArrayLike,
    nonmembers: ArrayLike,
    guesses: Sequence[tuple[int, int]] | None = None,
    seed: int | Sequence[int] | np.random.Generator = 0,
) -> RightGuesses:
    """Guesses the highest scores in and the lowest out; arguments as of `epsilon_lower_bound`."""
    x, y = as_scores(members, "members"), as_scores(nonmembers, "nonmembers")
    coins = x.size + y.size
    pairs = _default_pairs(coins) if guesses is None else list(guesses)
    for k_in, k_out in pairs:
        if min(k_in, k_out) < 0 or not 0 < k_in + k_out <= coins:
            raise ValueError(f"guesses: ({k_in}, {k_out}) does not fit {coins} units")
    if not pairs:
        raise ValueError("guesses: no pair given")
    included = _by_rank(x, y, np.random.default_rng(seed))
    right = [
        (k_in + k_out, int(included[coins - k_in :].sum()) + int(k_out - included[:k_out].sum()))
        for k_in, k_out in pairs
    ]
    return RightGuesses(x.size, coins, right)


def _default_pairs(coins: int) -> list[tuple[int, int]]:
    """Shares of all units guessed in, with as many guessed out and with none; distinct pairs."""
    pairs = []
    for share in _GRID_SHARES:
        k = max(1, int(share * coins))
        pairs += [(k, k), (k, 0)]
    return list(dict.fromkeys(pairs))


def _by_rank(members: np.ndarray, nonmembers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[m] True where the unit of this rank, lowest score first, was included."""
    scores = np.concatenate([members, nonmembers])
    included = np.arange(scores.size) < members.size
    shuffled = rng.permutation(scores.size)
    order = shuffled[np.argsort(scores[shuffled], kind="stable")]
    return np.asarray(included[order])


def _largest_rejected(r: int, v: int, m: int, delta: float, tail: float) -> float:
    """Largest epsilon whose p-value for v of r right guesses is at most `tail`, or 0."""
    if v == 0:
        return 0.0
    # The delta term only adds, so the answer without it is an upper end for the one with it.
    ceiling = max(0.0, float(special.logit(stats.beta.ppf(tail, v, r - v + 1))))
    if delta == 0.0 or ceiling == 0.0:
        return ceiling

    def excess(epsilon: float) -> float:
        return p_value(epsilon, r, v, m, delta) - tail

    if excess(0.0) >= 0.0:
        return 0.0
    return float(optimize.brentq(excess, 0.0, ceiling, xtol=1e-12))


def p_value(epsilon: float, r: int, v: int, m: int, delta: float) -> float:
    """Bound on the probability of v or more right guesses out of r under (epsilon, delta).

    Steinke, Nasr and Jagielski 2023, theorem 5.2 with m units, of which r are guessed.

    Args:
        epsilon: At least 0.
        r: Guesses.
        v: Right guesses, at least 1.
        m: Units whose inclusion was a fair coin.
        delta: In [0, 1).

    Returns:
        The bound; above 1 where it says nothing.
    """
    q = float(special.expit(epsilon))
    tail = float(stats.binom.sf(v - 1, r, q))
    below = stats.binom.pmf(np.arange(v - 1, -1, -1), r, q)  # [v] P[B = v - 1], P[B = v - 2], ...
    average = np.cumsum(below) / np.arange(1, v + 1)
    return tail + 2.0 * m * delta * float(average.max())
