"""Draws of units: independent coins of one rate, dealt to ranks once, fixed by a secret."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from datamodules.order import Slot
from datamodules.poisson import PoissonOrder, PoissonSampling

SECRET = b"fedcba9876543210"
# Units of one, two and three records.
UNIT_OF = {f"r{n}": f"u{n // 2 if n < 12 else 6 + (n - 12) // 3}" for n in range(24)}


def order(rate: float = 0.3, rank: int = 0, ranks: int = 1, steps: int = 5) -> PoissonOrder:
    return PoissonOrder(list(UNIT_OF), PoissonSampling(UNIT_OF, rate, steps, SECRET), ranks, rank)


@pytest.fixture(scope="module")
def draws() -> np.ndarray:
    """Which of ten units each of 4,000 steps has drawn [steps, units]."""
    poisson = order()
    names = list(poisson.units)
    return np.array([[name in poisson.drawn(step) for name in names] for step in range(4000)])


def test_sizes_are_binomial(draws: np.ndarray) -> None:
    n = draws.shape[1]
    counts = Counter(draws.sum(axis=1).tolist())
    found = np.array([counts[size] for size in range(n + 1)])
    expected = stats.binom.pmf(np.arange(n + 1), n, 0.3) * len(draws)
    # Sizes that few steps have are one class.
    found, expected = (np.append(x[:7], x[7:].sum()) for x in (found, expected))
    assert stats.chisquare(found, expected).pvalue > 1e-3
    assert counts[0] > 0


def test_inclusion_is_pairwise_independent_between_units_and_steps(draws: np.ndarray) -> None:
    pairs = [(draws[:, a], draws[:, b]) for a, b in combinations(range(draws.shape[1]), 2)]
    pairs += [(draws[:-1, a], draws[1:, a]) for a in range(draws.shape[1])]
    tables = [[[np.sum((x == i) & (y == j)) for j in (0, 1)] for i in (0, 1)] for x, y in pairs]
    values = [stats.chi2_contingency(table, correction=False).pvalue for table in tables]
    assert min(values) > 1e-3 / len(values)
    assert stats.kstest(values, "uniform").pvalue > 1e-3


def test_a_unit_comes_with_all_of_its_records() -> None:
    poisson = order()
    for step, batch in enumerate(poisson.micro_batches(epoch=2), start=10):
        ids = [poisson.record_ids[slot.index] for slot in batch if slot.scored]
        assert sorted(ids) == sorted(r for r in UNIT_OF if UNIT_OF[r] in poisson.drawn(step))


def test_ranks_share_one_draw() -> None:
    whole, parts = order(), [order(rank=rank, ranks=3) for rank in range(3)]
    for step, batches in enumerate(zip(*(one.micro_batches(0) for one in parts), strict=True)):
        units = [{UNIT_OF[whole.record_ids[s.index]] for s in b if s.scored} for b in batches]
        assert sum(map(len, units)) == len(set().union(*units))
        assert set().union(*units) == set(whole.drawn(step))


def test_an_empty_draw_is_a_batch_without_a_scored_token() -> None:
    assert order(rate=1e-9).micro_batches(0) == [[Slot(0, scored=False)]] * 5


def test_another_secret_draws_others_and_the_identity_tells_no_record() -> None:
    other = PoissonOrder(list(UNIT_OF), PoissonSampling(UNIT_OF, 0.3, 5, SECRET[::-1]), 1, 0)
    assert [other.drawn(s) for s in range(9)] != [order().drawn(s) for s in range(9)]
    assert other.identity["training records"] != order().identity["training records"]
    assert SECRET.hex() not in repr(order())
