"""Distinct n-grams and lengths by hand-worked examples, the jackknife by leaving records out."""

import numpy as np
import pytest
from scipy import stats

from audits.utility.generations import corpus_distinct_n, distinct_n


def test_shares_of_distinct_ngrams_by_hand() -> None:
    responses = [[1, 1, 1, 1], [1, 2, 3], [4], []]
    assert distinct_n(responses, 1).tolist() == [0.25, 1, 1, 1]
    assert distinct_n(responses, 2).tolist() == [pytest.approx(1 / 3), 1, 1, 1]
    assert corpus_distinct_n(responses, 1).value == pytest.approx(4 / 8)
    assert corpus_distinct_n(responses, 2).value == pytest.approx(3 / 5)


def test_the_interval_is_the_jackknifes() -> None:
    draw = np.random.default_rng(0)
    responses = [draw.integers(0, 30, size=draw.integers(5, 25)).tolist() for _ in range(40)]

    def share(kept: list[list[int]]) -> float:
        grams = [gram for r in kept for gram in zip(r, r[1:], strict=False)]
        return len(set(grams)) / len(grams)

    left_out = [share(responses[:i] + responses[i + 1 :]) for i in range(40)]
    error = np.sqrt(39 * np.var(left_out))
    found = corpus_distinct_n(responses, 2)
    assert found.value == pytest.approx(share(responses))
    assert found.upper - found.value == pytest.approx(stats.t.ppf(0.975, 39) * error)
    assert found.n == 40


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="n is 0"):
        distinct_n([[1]], 0)
    with pytest.raises(ValueError, match="two responses of at least 3"):
        corpus_distinct_n([[1, 2, 3], [1, 2]], 3)
