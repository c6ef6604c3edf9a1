"""Bounds for sampled text: worlds that are too few, and the best test by enumeration."""

import math
from itertools import permutations, product

import numpy as np
import pytest

from audits.bounds.ceilings import accuracy_ceiling
from audits.bounds.sampled_text import instance_ceiling, text_bound

COINS = list(product((0, 1), repeat=2))
TEXTS = list(product((0, 1), repeat=2))


def one_after(coins: tuple[int, int], prefix: tuple[int, ...]) -> float:
    """The teacher's chance of token 1 after a prefix, which both coins move."""
    if not prefix:
        return 0.4 + 0.3 * coins[0] + 0.05 * coins[1]
    return 0.5 + 0.35 * coins[1] + 0.05 * coins[0] - 0.2 * prefix[0]


def chance(coins: tuple[int, int], text: tuple[int, ...]) -> float:
    return math.prod(
        one if token else 1 - one
        for place, token in enumerate(text)
        for one in [one_after(coins, text[:place])]
    )


def test_few_worlds_have_no_value_and_impossible_tokens_no_bound() -> None:
    assert text_bound([1.0, 1.1, 0.9, 1.0], [10] * 4, units=100).accuracy_upper is None
    found = text_bound([1.0, 1.1, 0.9, 1.0, 1.05], [10] * 5, units=100)
    assert found.accuracy_upper is not None
    assert found.accuracy_upper > accuracy_ceiling(found.nats_per_unit.value)
    assert found.nats_per_token == pytest.approx(0.101)
    assert found.query_budget == pytest.approx(100 * math.log(2) / 0.101)
    assert text_bound([math.inf, 1, 1, 1, 1], [1] * 5, units=9).accuracy_upper == 1.0
    silent = text_bound([0.0] * 5, [1] * 5, units=9)
    assert (silent.accuracy_upper, silent.query_budget) == (0.5, math.inf)


def test_no_order_of_the_texts_exceeds_the_likelihood_ratio() -> None:
    """Texts stand as often as their chances say, so that the estimate is the enumeration."""
    inside, outside = (np.array([chance(coins, text) for text in TEXTS]) for coins in COINS[::3])
    ratio = np.log(inside / outside)

    def repeated(scores: np.ndarray) -> list[np.ndarray]:
        counts = [np.rint(2000 * side).astype(int) for side in (inside, outside)]
        for count, side in zip(counts, (inside, outside), strict=True):
            np.testing.assert_allclose(count, 2000 * side)
        return [np.repeat(scores, count) for count in counts]

    best = instance_ceiling(*repeated(ratio))
    every = [
        instance_ceiling(*repeated(np.array(order, dtype=float))).highest.value
        for order in permutations(range(4))
    ]
    assert best.highest.value == pytest.approx(max(every))
    assert not best.vacuous
    assert instance_ceiling([9.0] * 50, [-9.0] * 50).vacuous
