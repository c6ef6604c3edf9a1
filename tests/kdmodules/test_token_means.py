"""Sums of micro-batches become means over the tokens of all ranks."""

import torch
from torch import Tensor

from kdmodules.token_means import TokenSums


def scalars(**values: float) -> dict[str, Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def test_mean_over_tokens_not_over_batches() -> None:
    sums = TokenSums()
    sums.add(scalars(loss=6.0, tokens=2))
    sums.add(scalars(loss=4.0, tokens=8))
    assert sums.means(lambda total: total) == ({"loss": 1.0}, 10.0, 10.0)


def test_ranks_are_added_and_the_sums_start_anew() -> None:
    sums = TokenSums()
    sums.add(scalars(loss=3.0, kd=1.0, tokens=4))
    assert sums.means(lambda total: 2 * total) == ({"kd": 0.25, "loss": 0.75}, 8.0, 8.0)
    sums.add(scalars(loss=5.0, tokens=5))
    assert sums.means(lambda total: total) == ({"loss": 1.0}, 5.0, 5.0)


def test_sums_over_sequences_are_divided_by_their_number() -> None:
    sums = TokenSums()
    sums.add(scalars(loss=6.0, tokens=20, sequences=3))
    sums.add(scalars(loss=4.0, tokens=5, sequences=1))
    assert sums.means(lambda total: total) == ({"loss": 2.5}, 4.0, 25.0)


def test_no_scored_token_gives_zero() -> None:
    sums = TokenSums()
    sums.add(scalars(loss=0.0, tokens=0))
    assert sums.means(lambda total: total) == ({"loss": 0.0}, 0.0, 0.0)


def test_small_terms_are_not_lost_beside_large_ones() -> None:
    sums = TokenSums()
    sums.add(scalars(loss=2.0**30, tokens=1))
    for _ in range(64):
        sums.add(scalars(loss=1.0, tokens=0))
    assert sums.means(lambda total: total)[0]["loss"] == 2.0**30 + 64
