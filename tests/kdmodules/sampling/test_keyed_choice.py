"""The keyed numbers against plain integers, the choices against the softmax they must follow."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import TopKLogitsWarper, TopPLogitsWarper

from kdmodules.sampling.keyed_choice import (
    GROUP_TOKENS,
    RandomScope,
    keyed_choice,
    keyed_uniforms,
    sampling_scores,
)

MASK = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15


def split_mix(state: int) -> int:
    state &= MASK
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB & MASK
    return state ^ (state >> 31)


def plain_uniforms(key: int, stream: int, count: int) -> list[float]:
    state = split_mix(split_mix(key) + (stream + 1) * GAMMA)
    bits = [split_mix(state + counter * GAMMA) for counter in range(1, count + 1)]
    return [((word >> 12) + 0.5) / 2**52 for word in bits]


def plain_choice(scores: list[float], key: int, stream: int) -> int:
    """Two Gumbel-max stages, one Python float at a time."""
    groups = math.ceil(len(scores) / GROUP_TOKENS)
    gumbels = [-math.log(-math.log(u)) for u in plain_uniforms(key, stream, GROUP_TOKENS + groups)]
    totals = []
    for group in range(groups):
        part = scores[group * GROUP_TOKENS : (group + 1) * GROUP_TOKENS]
        total = sum(math.exp(score) for score in part)
        totals.append(math.log(total) if total else -math.inf)
    best = max(range(groups), key=lambda group: totals[group] + gumbels[GROUP_TOKENS + group])
    part = scores[best * GROUP_TOKENS : (best + 1) * GROUP_TOKENS]
    return best * GROUP_TOKENS + max(range(len(part)), key=lambda i: part[i] + gumbels[i])


def keys(count: int, seed: int = 0) -> torch.Tensor:
    return RandomScope(seed, "test").keys([f"record-{index}" for index in range(count)])


def chi_square(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """p-value of a goodness-of-fit test; cells that expect fewer than 5 are one cell."""
    assert counts[probabilities == 0].sum() == 0
    expected = probabilities * counts.sum()
    small = expected < 5
    observed = np.append(counts[~small], counts[small].sum())
    wanted = np.append(expected[~small], expected[small].sum())
    if wanted[-1] == 0:
        observed, wanted = observed[:-1], wanted[:-1]
    return float(stats.chisquare(observed, wanted).pvalue)


def count_choices(scores: torch.Tensor, rows: int, streams: int) -> np.ndarray:
    block = scores.expand(rows, -1)
    drawn = [keyed_choice(block, keys(rows), stream) for stream in range(streams)]
    return torch.bincount(torch.cat(drawn), minlength=scores.shape[-1]).numpy()


def test_uniforms_equal_split_mix_in_plain_integers() -> None:
    found = keyed_uniforms(keys(5), stream=3, count=20)
    expected = [plain_uniforms(key, 3, 20) for key in keys(5).tolist()]
    assert found.tolist() == expected


def test_split_mix_equals_its_published_first_outputs() -> None:
    # First outputs of the reference generator for seed 1234567.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [split_mix(1234567 + step * GAMMA) for step in (1, 2, 3)] == published


def test_uniforms_are_uniform_and_unrelated_across_keys_streams_and_counters() -> None:
    cube = torch.stack([keyed_uniforms(keys(300), stream, 100) for stream in range(20)]).numpy()
    assert stats.kstest(cube.ravel(), "uniform").pvalue > 1e-3
    neighbours = [
        (cube[1:], cube[:-1]),
        (cube[:, 1:], cube[:, :-1]),
        (cube[..., 1:], cube[..., :-1]),
    ]
    for one, other in neighbours:
        table = np.histogram2d(one.ravel(), other.ravel(), bins=10)[0]
        assert stats.chisquare(table.ravel()).pvalue > 1e-3


def test_every_part_of_the_scope_changes_the_key() -> None:
    scopes = [
        RandomScope(1, "a"),
        RandomScope(2, "a"),
        RandomScope(1, "b"),
        RandomScope(1, "a", step=1),
        RandomScope(1, "a", draw=1),
    ]
    found = {scope.keys(["x"]).item() for scope in scopes} | {scopes[0].keys(["y"]).item()}
    assert len(found) == 6


@pytest.mark.parametrize(
    ("width", "spread"), [(3, 1.0), (GROUP_TOKENS, 2.0), (600, 3.0), (1000, 0.0)]
)
def test_choices_follow_the_softmax(width: int, spread: float) -> None:
    scores = torch.randn(1, width, generator=torch.Generator().manual_seed(width)) * spread
    counts = count_choices(scores, rows=2_000, streams=15)
    assert chi_square(counts, scores[0].double().softmax(0).numpy()) > 1e-3


@pytest.mark.parametrize(
    ("temperature", "top_p", "top_k"),
    [(0.7, 1.0, 0), (1.3, 0.8, 0), (1.0, 1.0, 20), (0.9, 0.7, 50)],
)
def test_choices_follow_the_truncated_softmax(temperature: float, top_p: float, top_k: int) -> None:
    logits = torch.randn(1, 600, generator=torch.Generator().manual_seed(4)) * 2
    weights = (logits[0].double() / temperature).exp().numpy()
    order = np.argsort(-weights)
    kept = order[: top_k or None]
    shares = weights[kept] / weights[kept].sum()
    kept = kept[np.cumsum(shares) - shares < top_p]
    expected = np.zeros(600)
    expected[kept] = weights[kept] / weights[kept].sum()
    scores = sampling_scores(logits, temperature, top_p, top_k)
    assert chi_square(count_choices(scores, rows=2_000, streams=15), expected) > 1e-3


def test_choices_equal_the_naive_loop() -> None:
    scores = torch.randn(40, 700, generator=torch.Generator().manual_seed(1)) * 3
    scores[:, 100:300] = -torch.inf
    for stream in (0, 1, 77):
        found = keyed_choice(scores, keys(40), stream).tolist()
        rows = zip(scores.double().tolist(), keys(40).tolist(), strict=True)
        assert found == [plain_choice(row, key, stream) for row, key in rows]


def test_fixed_logits_give_the_same_choice_in_any_batch() -> None:
    scores = torch.randn(32, 5_000, generator=torch.Generator().manual_seed(2))
    together = keyed_choice(scores, keys(32), stream=5)
    alone = [keyed_choice(scores[row : row + 1], keys(32)[row : row + 1], 5) for row in range(32)]
    assert torch.cat(alone).equal(together)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(3))
    assert keyed_choice(scores[order], keys(32)[order], 5).equal(together[order])
    padded = torch.cat([scores, torch.full((32, 333), -torch.inf)], dim=1)
    assert keyed_choice(padded, keys(32), 5).equal(together)


def test_rounding_of_the_logits_hardly_moves_choices() -> None:
    generator = torch.Generator().manual_seed(6)
    scores = torch.randn(32, 50_257, generator=generator) * 0.2
    moved = scores + 1e-6 * torch.randn(32, 50_257, generator=generator)
    flips = sum(
        int((keyed_choice(scores, keys(32), s) != keyed_choice(moved, keys(32), s)).sum())
        for s in range(8)
    )
    # An inverse cumulative distribution in exact arithmetic already flips about 2e-4 of these.
    assert flips == 0


def test_rows_without_a_distribution_are_marked() -> None:
    scores = torch.zeros(5, 10)
    scores[0, 3] = torch.nan
    scores[1, 3] = torch.inf
    scores[2] = -torch.inf
    scores[3, :9] = -torch.inf
    found = keyed_choice(scores, keys(5), stream=0).tolist()
    assert found[:4] == [-1, -1, -1, 9]
    assert 0 <= found[4] < 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_scores_keep_the_tokens_that_transformers_keeps(dtype: torch.dtype) -> None:
    logits = torch.randn(8, 500, generator=torch.Generator().manual_seed(9)).to(dtype)
    ids = torch.zeros(8, 1, dtype=torch.long)
    reference = TopKLogitsWarper(100)(ids, logits.double() / 0.8)
    reference = TopPLogitsWarper(0.9)(ids, reference)
    found = sampling_scores(logits, temperature=0.8, top_p=0.9, top_k=100)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    if dtype != torch.bfloat16:  # bfloat16 logits tie, and ties are kept here
        assert found.isfinite().equal(reference.isfinite())
    kept = found.isfinite() & reference.isfinite()
    assert torch.allclose(found[kept].double(), reference[kept], rtol=1e-6)


def test_the_likeliest_token_and_its_ties_always_stay() -> None:
    logits = torch.tensor([[5.0, 5.0, 1.0, 0.0]])
    assert sampling_scores(logits, 1.0, 1e-9, 0).isfinite().tolist() == [[True, True, False, False]]
    assert sampling_scores(logits, 1.0, 1.0, 1).isfinite().tolist() == [[True, True, False, False]]
    assert sampling_scores(logits, 1.0, 1.0, 99).equal(logits)
