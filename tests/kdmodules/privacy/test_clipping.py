"""Clipped sums against a naive loop in float64, the reach of one unit, and the noise."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from audits.statistics.one_run_mu import mu_lower_bound
from datamodules.batches import EncodedRecord, InstructionBatch, collate
from kdmodules.models.adapters import Adapter
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.network import Network, build_network
from kdmodules.privacy.clipping import ClippedSum, add_noise
from kdmodules.unit_gradients import unit_gradient
from tests.kdmodules.conftest import TINY

SECRET = b"0123456789abcdef"
UNITS = ([0], [1, 2], [3])
KINDS = ["gpt2", "opt", "gpt2 adapter", pytest.param("llama", marks=pytest.mark.slow)]


def model_of(kind: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Of GPT-2 with its tied head, of OPT with its projections, of LLaMA; no dropout."""
    family, _, adapted = kind.partition(" ")
    dropout = {"gpt2": ("resid_pdrop", "embd_pdrop", "attn_pdrop"), "opt": ("dropout",)}
    config = {**TINY[family], **dict.fromkeys(dropout.get(family, ()), 0.0)}
    adapter = Adapter(dropout=0.0) if adapted else None
    model = build_network(Network(family, None, config, adapter=adapter), tokenizer, seed=1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    return model


def make_batch() -> InstructionBatch:
    """Four records of different lengths, of which one has unscored tokens in its response."""
    ids = torch.Generator().manual_seed(5)

    def record(number: int, prompt: int, response: int) -> EncodedRecord:
        tokens = torch.randint(5, 290, (prompt + response,), generator=ids).tolist()
        scored = None if number else (True, False, *[True] * (response - 2))
        return EncodedRecord(
            f"r{number}", "", tuple(tokens[:prompt]), tuple(tokens[prompt:]), scored=scored
        )

    return collate(
        [record(n, *sizes) for n, sizes in enumerate([(5, 7), (3, 2), (9, 4), (2, 11)])], 0
    )


def naive_sum(model: PreTrainedModel, batch: InstructionBatch, clip: float) -> list[torch.Tensor]:
    """Record by record through the model's own forward in float64, then unit by unit."""
    model = model.double()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    total = [torch.zeros_like(weight) for weight in weights]
    for unit in UNITS:
        summed = [torch.zeros_like(weight) for weight in weights]
        for row in unit:
            length = int(batch.attention_mask[row].sum())
            ids = batch.input_ids[row : row + 1, :length]
            logits = model(input_ids=ids).logits[0]
            scored = batch.response_mask[row, :length].nonzero().flatten()
            losses = [-logits[at - 1].log_softmax(-1)[ids[0, at]] for at in scored.tolist()]
            model.zero_grad()
            (sum(losses) / len(losses)).backward()
            for one, weight in zip(summed, weights, strict=True):
                one += 0.0 if weight.grad is None else weight.grad
        norm = math.sqrt(sum(float((one**2).sum()) for one in summed))
        for one, added in zip(total, summed, strict=True):
            one += added * min(1.0, clip / norm)
    return total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("clip", [0.5, 1e9])
def test_clipped_sum_is_that_of_a_naive_loop(
    kind: str, clip: float, tokenizer: PreTrainedTokenizerFast
) -> None:
    model, batch = model_of(kind, tokenizer), make_batch()
    lm = CausalLM(model, len(tokenizer))
    weights = [weight for weight in lm.parameters() if weight.requires_grad]
    found = ClippedSum(weights, clip, "norm")
    for unit in UNITS:
        found.add(unit_gradient(lm, batch, unit, weights)[0])
    assert (found.norms > 0.5).all()
    found.write_gradients(divisor=1.0)
    mine = [weight.grad.clone() for weight in weights]
    for got, expected in zip(mine, naive_sum(model, batch, clip), strict=True):
        torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("clipping", ["norm", "automatic"])
def test_no_unit_moves_the_sum_by_more_than_the_clipping_norm(clipping: str) -> None:
    weights = [nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.zeros(5))]
    draw = torch.Generator().manual_seed(0)
    gradients = [torch.randn(weight.shape, generator=draw) for weight in weights]
    found = ClippedSum(weights, 0.7, clipping)
    found.add(gradients)
    before = found.flat.clone()
    found.add([gradient * 1e6 for gradient in gradients])
    assert float((found.flat - before).norm()) == pytest.approx(0.7, rel=1e-5)
    before = found.flat.clone()
    found.add([gradient * 1e-6 for gradient in gradients])
    moved = float((found.flat - before).norm())
    assert moved <= (1e-5 if clipping == "norm" else 1e-3)


def test_automatic_clipping_divides_by_the_norm_and_an_offset() -> None:
    weight = nn.Parameter(torch.zeros(2))
    found = ClippedSum([weight], 2.0, "automatic")
    found.add([torch.tensor([0.3, 0.4])])
    torch.testing.assert_close(found.flat, torch.tensor([0.3, 0.4]) * 2.0 / 0.51)


def test_noise_has_its_deviation_and_is_keyed_by_secret_and_step() -> None:
    n, deviation = 100_000, 0.35

    def noise(secret: bytes, step: int) -> torch.Tensor:
        flat = torch.zeros(n)
        add_noise(flat, deviation, secret, step)
        return flat

    first, second, other = noise(SECRET, 0), noise(SECRET, 1), noise(SECRET[::-1], 0)
    assert torch.equal(first, noise(SECRET, 0))
    for one in (first, second, other):
        low, high = stats.chi2.ppf([1e-4, 1 - 1e-4], n)
        assert low < float((one.double() / deviation).square().sum()) < high
        assert stats.kstest(one.numpy() / deviation, "norm").pvalue > 1e-4
    for pair in ((first, second), (first, other)):
        correlation = float(torch.corrcoef(torch.stack(pair))[0, 1])
        assert abs(correlation) < 4 / math.sqrt(n)


def canary_scores(deviation: float, m: int = 2_000) -> tuple[np.ndarray, np.ndarray]:
    """One step in which every unit with heads takes part, and what the release says of each.

    Gradients of canaries point in directions of their own and are clipped; a score is the product
    of the noisy sum and a canary's direction, which is the best attack.
    """
    weight = nn.Parameter(torch.zeros(m))
    coins = np.random.default_rng(1).integers(0, 2, m).astype(bool)
    found = ClippedSum([weight], 1.0, "norm")
    for number in np.flatnonzero(coins):
        gradient = torch.zeros(m)
        gradient[number] = 50.0
        found.add([gradient])
    add_noise(found.flat, deviation, SECRET, step=0)
    scores = found.flat.double().numpy()
    return scores[coins], scores[~coins]


def effect(members: np.ndarray, nonmembers: np.ndarray) -> tuple[float, float]:
    """Difference of the means in standard deviations, and its standard error."""
    pooled = math.sqrt((members.var(ddof=1) + nonmembers.var(ddof=1)) / 2)
    size = (members.mean() - nonmembers.mean()) / pooled
    counts = 1 / len(members) + 1 / len(nonmembers)
    return size, math.sqrt(counts + size**2 / (2 * (len(members) + len(nonmembers))))


def test_gradient_canaries_show_the_mu_of_the_noise_and_no_more() -> None:
    for noise in (0.5, 1.0, 2.0):
        members, nonmembers = canary_scores(noise)
        size, error = effect(members, nonmembers)
        assert abs(size - 1 / noise) < 3 * error
        assert mu_lower_bound(members, nonmembers).lower < 1 / noise


def test_gradient_canaries_catch_a_training_without_noise() -> None:
    claimed = 1.0
    members, nonmembers = canary_scores(0.0)
    assert members.min() > nonmembers.max()
    assert mu_lower_bound(members, nonmembers).lower > claimed
    # A fifth of the noise that is claimed.
    assert mu_lower_bound(*canary_scores(0.2)).lower > claimed
