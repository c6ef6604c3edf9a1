"""One-run epsilon against direct sums, closed forms and randomised response of known epsilon."""

import math

import numpy as np
import pytest
from scipy import stats

from audits.statistics import epsilon_equivalent, epsilon_lower_bound
from audits.statistics.one_run_epsilon import p_value


def naive_p(epsilon: float, r: int, v: int, m: int, delta: float) -> float:
    q = math.exp(epsilon) / (1 + math.exp(epsilon))
    pmf = [math.comb(r, k) * q**k * (1 - q) ** (r - k) for k in range(r + 1)]
    worst = max(sum(pmf[v - i : v]) / i for i in range(1, v + 1))
    return sum(pmf[v:]) + 2 * m * delta * worst


@pytest.mark.parametrize(("r", "v", "m"), [(20, 17, 40), (30, 30, 30), (12, 1, 50)])
@pytest.mark.parametrize("delta", [0.0, 1e-4, 1e-2])
def test_p_value_equals_direct_sums(r: int, v: int, m: int, delta: float) -> None:
    for epsilon in (0.0, 0.7, 2.5):
        expected = naive_p(epsilon, r, v, m, delta)
        assert p_value(epsilon, r, v, m, delta) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("r", "ceiling"), [(20, 1.8), (100, 3.5), (1000, 5.8)])
def test_all_right_guesses_give_the_ceiling(r: int, ceiling: float) -> None:
    half = r // 2
    found = epsilon_lower_bound(np.ones(half), np.zeros(half), guesses=[(half, half)])
    q = 0.05 ** (1 / r)
    assert found.value == pytest.approx(math.log(q / (1 - q)))
    assert found.value == pytest.approx(ceiling, abs=0.05)
    assert (found.guesses, found.correct) == (r, r)
    assert (found.lower, found.upper) == (found.value, math.inf)


@pytest.mark.parametrize("delta", [0.0, 1e-6, 1e-4])
def test_bound_is_where_the_p_value_crosses(delta: float) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=200) + 2, rng.normal(size=210)
    found = epsilon_lower_bound(x, y, delta, guesses=[(60, 40)])
    ranked = sorted([(s, True) for s in x] + [(s, False) for s in y])
    right = sum(b for _, b in ranked[-60:]) + sum(not b for _, b in ranked[:40])
    assert (found.correct, found.delta) == (right, delta)
    for epsilon in np.linspace(0, 6, 400):  # rejected below the bound, and nowhere above it
        assert (naive_p(epsilon, 100, right, 410, delta) <= 0.05) == (epsilon <= found.value)


def test_the_grid_pays_for_its_points_and_delta_lowers_the_bound() -> None:
    x, y = np.arange(50) + 100.0, np.arange(50) * 1.0
    single = epsilon_lower_bound(x, y, guesses=[(50, 50)])
    both = epsilon_lower_bound(x, y, guesses=[(50, 50), (10, 10)])
    assert both.value < single.value
    q = 0.025 ** (1 / 100)
    assert both.value == pytest.approx(math.log(q / (1 - q)))
    assert epsilon_lower_bound(x, y, 1e-3, guesses=[(50, 50)]).value < single.value
    assert epsilon_lower_bound(x, y, level=0.99).value < epsilon_lower_bound(x, y).value


def test_noise_inversion_and_small_sets_give_zero() -> None:
    rng = np.random.default_rng(3)
    assert epsilon_lower_bound(rng.normal(size=100), rng.normal(size=100)).value < 0.3
    assert epsilon_lower_bound(np.zeros(50), np.ones(50)).value == 0.0
    assert epsilon_lower_bound([1.0], [0.0]).value == 0.0


def test_ties_are_broken_without_looking() -> None:
    bounds = [epsilon_lower_bound(np.zeros(300), np.zeros(300), seed=i).value for i in range(40)]
    assert sum(bound > 0 for bound in bounds) <= 4
    assert epsilon_lower_bound([1.0, 1, 0], [0.0, 1], seed=4) == epsilon_lower_bound(
        [1.0, 1, 0], [0.0, 1], seed=4
    )


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
def test_bound_rarely_exceeds_the_truth_of_randomised_response(epsilon: float) -> None:
    rng = np.random.default_rng(7)
    keep, draws, exceeded, bounds = 1 / (1 + math.exp(-epsilon)), 400, 0, []
    for _ in range(draws):
        coins = rng.random(300) < 0.5
        said = np.where(rng.random(300) < keep, coins, ~coins).astype(float)
        found = epsilon_lower_bound(said[coins], said[~coins], guesses=[(150, 150)], seed=rng)
        exceeded += found.value > epsilon
        bounds.append(found.value)
    assert exceeded <= stats.binom.ppf(0.999, draws, 0.05)
    assert np.median(bounds) >= 0.6 * epsilon  # a bound of 0 would pass the line above


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"delta": -0.1}, "delta"),
        ({"delta": 1.0}, "delta"),
        ({"guesses": [(0, 0)]}, "does not fit"),
        ({"guesses": [(3, 2)]}, "does not fit"),
        ({"guesses": [(-1, 2)]}, "does not fit"),
        ({"guesses": []}, "no pair"),
        ({"level": 1.5}, "level"),
    ],
)
def test_bad_arguments_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        epsilon_lower_bound([1.0, 2.0], [0.0, 0.5], **changes)


def test_epsilon_equivalent() -> None:
    for epsilon in (0.5, 2.0):
        keep = 1 / (1 + math.exp(-epsilon))
        assert epsilon_equivalent(keep, 1 - keep) == pytest.approx(epsilon)
    assert epsilon_equivalent(0.3, 0.1) == pytest.approx(math.log(3))
    assert epsilon_equivalent(0.9, 0.7) == pytest.approx(math.log(3))
    assert epsilon_equivalent(0.2, 0.4) == 0.0
    assert epsilon_equivalent(0.0, 0.0) == 0.0
    assert epsilon_equivalent(0.1, 0.0) == math.inf
    assert epsilon_equivalent(1.0, 0.5) == math.inf
    with pytest.raises(ValueError, match="between 0 and 1"):
        epsilon_equivalent(1.1, 0.5)
