"""Bounds for sampled text against enumeration: two coins, texts of two tokens out of two."""

import math
from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats

from audits.bounds.ceilings import accuracy_ceiling
from audits.bounds.sampled_text import instance_ceiling, text_bound, token_nats

COINS = list(product((0, 1), repeat=2))
TEXTS = list(product((0, 1), repeat=2))
PREFIXES: list[tuple[int, ...]] = [(), (0,), (1,)]


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


def log_rows(coins: tuple[int, int]) -> np.ndarray:
    """[3, 2] log-probabilities after each prefix."""
    ones = np.array([one_after(coins, prefix) for prefix in PREFIXES])
    return np.log(np.stack([1 - ones, ones], axis=1))


def world_nats(coins: tuple[int, int]) -> float:
    """Expected nats of the text of a world's teacher: token by token, along its own prefixes."""
    others = np.stack([log_rows(other) for other in COINS])
    first, *later = token_nats(log_rows(coins), others)
    one = one_after(coins, ())
    return float(first + (1 - one) * later[0] + one * later[1])


def test_no_guess_of_the_coins_exceeds_the_bound() -> None:
    joint = np.array([[chance(coins, text) / 4 for text in TEXTS] for coins in COINS])
    information = stats.entropy(joint.ravel(), np.outer(joint.sum(1), joint.sum(0)).ravel())
    nats = [world_nats(coins) for coins in COINS]
    assert information < np.mean(nats) < 1.5 * information
    best = np.mean(
        [
            np.maximum(*(joint[[c[i] == side for c in COINS]].sum(0) for side in (0, 1))).sum()
            for i in range(2)
        ]
    )
    assert 0.6 < best <= accuracy_ceiling(information / 2) <= accuracy_ceiling(np.mean(nats) / 2)
    # Every world once over and over: an interval of no width, at the mean.
    many = text_bound(np.tile(nats, 2000), [2.0] * 8000, units=2)
    assert many.accuracy_upper == pytest.approx(accuracy_ceiling(np.mean(nats) / 2), abs=5e-3)
    assert many.accuracy_upper >= best


def test_tokens_add_up_to_the_divergence_of_whole_texts() -> None:
    """Of a single other model, by the chain rule."""
    ours, other = (1, 1), (0, 1)
    first, *later = token_nats(log_rows(ours), log_rows(other)[None])
    one = one_after(ours, ())
    whole = stats.entropy(*([chance(coins, text) for text in TEXTS] for coins in (ours, other)))
    assert first + (1 - one) * later[0] + one * later[1] == pytest.approx(whole)


def test_few_worlds_have_no_value_and_impossible_tokens_no_bound() -> None:
    assert text_bound([1.0, 1.1, 0.9, 1.0], [10] * 4, units=100).accuracy_upper is None
    found = text_bound([1.0, 1.1, 0.9, 1.0, 1.05], [10] * 5, units=100)
    assert found.accuracy_upper is not None
    assert found.accuracy_upper > accuracy_ceiling(found.nats_per_unit.value)
    assert found.nats_per_token == pytest.approx(0.101)
    assert found.query_budget == pytest.approx(100 * math.log(2) / 0.101)
    with np.errstate(divide="ignore"):
        impossible = token_nats(np.log([[0.5, 0.5]]), np.log([[[1.0, 0.0]]]))
    assert np.isinf(impossible).all()
    assert text_bound([*impossible, 1, 1, 1, 1], [1] * 5, units=9).accuracy_upper == 1.0


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
