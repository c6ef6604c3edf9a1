"""Perplexity against the definition, token by token."""

import math

import numpy as np
import pytest

from audits.statistics.means import ratio_interval
from audits.utility.perplexity import perplexity


def test_it_is_the_exponential_of_the_mean_over_all_tokens() -> None:
    draw = np.random.default_rng(0)
    tokens = [-draw.gamma(2, 1, size=size) for size in (3, 50, 7, 20)]
    found = perplexity([record.sum() for record in tokens], [len(record) for record in tokens])
    pooled = np.concatenate(tokens)
    assert found.value == pytest.approx(math.exp(-pooled.mean()))
    per_record = math.exp(np.mean([-record.mean() for record in tokens]))
    assert found.value != pytest.approx(per_record, rel=1e-3)
    assert found.n == 4


def test_bounds_are_ordered_and_belong_to_the_mean_in_nats() -> None:
    sums, counts = [-30.0, -12.0, -55.0], [10, 8, 20]
    logp, found = ratio_interval(sums, counts), perplexity(sums, counts)
    assert found.value == pytest.approx(math.exp(97 / 38))
    assert found.lower < found.value < found.upper
    assert (found.lower, found.upper) == (math.exp(-logp.upper), math.exp(-logp.lower))


def test_the_interval_covers_the_true_perplexity() -> None:
    draw = np.random.default_rng(4)
    hits = 0
    for _ in range(600):
        difficulty = draw.normal(2, 0.5, size=80)
        counts = draw.integers(1, 100, size=80)
        found = perplexity(-difficulty * counts, counts)
        hits += found.lower <= math.exp(2) <= found.upper
    assert 0.92 <= hits / 600 <= 0.98


def test_one_record_has_no_interval_and_divergence_is_infinite() -> None:
    assert perplexity([-2.0], [1]).lower is None
    assert perplexity([-2e5, -2e5], [100, 100]).value == math.inf


def test_no_record_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one record"):
        perplexity([], [])
