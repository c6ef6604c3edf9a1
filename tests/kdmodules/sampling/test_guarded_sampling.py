"""Bounded text: the private sampler by enumeration, CP-Delta's bound, draws nobody can repeat."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from datamodules.encoding import EncodedRecord
from kdmodules.privacy.concentrated import clipped_mean_rho
from kdmodules.sampling.guarded_sampling import (
    clipped_mean_scores,
    paid_responses,
    smaller_of_two,
)
from kdmodules.sampling.keyed_choice import choice_by, secret_uniforms, uniforms_of_choice
from kdmodules.sampling.sampler import SamplingSettings
from tests.kdmodules.sampling.test_mixture_sampling import (
    EOS,
    SCOPE,
    TOKENS,
    VOCABULARY,
    build,
    last_logits,
    make_encoded,
)

TEACHERS, CLIP, TEMPERATURE = 3, 0.7, 0.8
ORDERS = (1.0001, 1.5, 2.0, 4.0, 16.0, 64.0)


def softmax(values: list[float]) -> list[float]:
    weights = [math.exp(value) for value in values]
    return [weight / sum(weights) for weight in weights]


def naive(logits: list[list[float]], clip: float, temperature: float) -> list[float]:
    """The private distribution, token by token."""
    public, *teachers = ([math.log(p) for p in softmax(row)] for row in logits)
    scores = []
    for token, of_public in enumerate(public):
        moves = [max(-clip, min(clip, teacher[token] - of_public)) for teacher in teachers]
        scores.append((of_public + sum(moves) / len(moves)) / temperature)
    return softmax(scores)


def private(logits: list[list[float]]) -> np.ndarray:
    rows = [torch.tensor([row], dtype=torch.float64) for row in logits]
    return clipped_mean_scores(rows, CLIP, TEMPERATURE).softmax(dim=-1)[0].numpy()


def renyi(p: np.ndarray, q: np.ndarray, order: float) -> float:
    return math.log(float((p**order * q ** (1.0 - order)).sum())) / (order - 1.0)


def test_the_private_sampler_by_enumeration() -> None:
    """Three teachers, four tokens: whatever one teacher becomes, no order exceeds rho."""
    logits = np.random.default_rng(0).normal(size=(1 + TEACHERS, 4)).tolist()
    before, rho = private(logits), clipped_mean_rho(TEACHERS, CLIP, TEMPERATURE)
    np.testing.assert_allclose(before, naive(logits, CLIP, TEMPERATURE), rtol=1e-12)
    # Each token a favourite, shunned or left alone: the corners of all that a teacher may say.
    corners = list(itertools.product([-30.0, 0.0, 30.0], repeat=4))
    reached, both = 0.0, []
    for replaced, corner in itertools.product(range(1, 1 + TEACHERS), corners):
        row = (np.log(softmax(logits[0])) + corner).tolist()
        both.append(private([row if i == replaced else old for i, old in enumerate(logits)]))
        np.testing.assert_allclose(
            both[-1],
            naive([row if i == replaced else old for i, old in enumerate(logits)], CLIP, 0.8),
            rtol=1e-12,
        )
    third = both[-len(corners) :]
    for p, q in itertools.permutations(third, 2):
        for order in ORDERS:
            reached = max(reached, renyi(p, q, order) / order / rho)
    for q, order in itertools.product(both, ORDERS):
        reached = max(reached, renyi(before, q, order) / order / rho)
    assert 0.5 < reached <= 1.0
    # Without the clip, the same teachers give everything away.
    moved = clipped_mean_scores(
        [torch.tensor([row], dtype=torch.float64) for row in [*logits[:3], [30.0, 0, 0, 0]]],
        clip=1e9,
        temperature=TEMPERATURE,
    )
    assert renyi(moved.softmax(-1)[0].numpy(), before, 2.0) / 2.0 > 5.0 * rho


def test_the_smaller_of_two_by_hand_and_its_bound() -> None:
    draw = np.random.default_rng(1)
    for _ in range(50):
        logits = 2.0 * draw.normal(size=(2, 4))
        p, q = (np.array(softmax((row / 0.7).tolist())) for row in logits)
        scores, nats = smaller_of_two([torch.tensor(row)[None] for row in logits], temperature=0.7)
        overlap = 1.0 - 0.5 * np.abs(p - q).sum()
        found = scores.softmax(dim=-1)[0].numpy()
        np.testing.assert_allclose(found, np.minimum(p, q) / overlap, rtol=1e-9)
        assert float(nats) == pytest.approx(-math.log(overlap))
        for safe in (p, q):
            assert (found <= math.exp(float(nats)) * safe * (1.0 + 1e-9)).all()
    alike = torch.tensor([[0.3, -1.0]])
    assert float(smaller_of_two([alike, alike], 1.0)[1]) == pytest.approx(0.0, abs=1e-7)


def test_tokens_follow_the_scores_and_padded_rows_get_none() -> None:
    """Draws of the operating system against a naive distribution, from models with spare rows."""
    models = [build("gpt2", seed=i, rows=TOKENS + 7 * i) for i in range(3)]
    prompt, count = (5, 9, 11), 8_000
    records = [
        EncodedRecord(f"r{i}", "open_qa", prompt, (EOS,), False, False) for i in range(count)
    ]

    def scheme(logits: list[Tensor]) -> tuple[Tensor, Tensor]:
        scores = clipped_mean_scores(logits, CLIP, TEMPERATURE)
        return scores, torch.full((len(scores),), 0.25)

    settings = SamplingSettings(max_new_tokens=1)
    found = paid_responses(models, records, scheme, settings, VOCABULARY, None, 2_000)
    rows = [last_logits(model, prompt)[0].double().tolist() for model in models]
    expected = np.array(naive(rows, CLIP, TEMPERATURE)) * count
    observed = np.bincount([one.token_ids[0] for one in found], minlength=TOKENS)
    assert stats.chisquare(observed, expected).pvalue > 1e-3
    assert {one.cost for one in found} == {0.25}


def test_costs_add_up_to_the_end_of_a_response_alone() -> None:
    models, encoded = [build("gpt2", seed=i) for i in range(2)], make_encoded(12)
    settings = SamplingSettings(max_new_tokens=12)
    found = paid_responses(
        models, encoded, lambda logits: smaller_of_two(logits, 1.0), settings, VOCABULARY, SCOPE, 4
    )
    for record, response in zip(encoded, found, strict=True):
        ids, cost = list(record.prompt_ids), 0.0
        for token in response.token_ids:
            p, q = (last_logits(model, ids)[0].double().softmax(-1) for model in models)
            cost -= math.log(float(torch.minimum(p, q).sum()))
            ids.append(token)
        assert response.cost == pytest.approx(cost, rel=1e-4)
        assert EOS not in response.token_ids[:-1]
    assert len({len(response.token_ids) for response in found}) > 1


def test_secret_draws_are_uniform_and_follow_no_seed() -> None:
    numbers = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 - a global seed is what must not matter
        numbers.append(secret_uniforms(40, 500))
    assert not torch.equal(*numbers)
    assert 0.0 < float(numbers[0].min()) < float(numbers[0].max()) < 1.0
    assert stats.kstest(torch.cat(numbers).flatten().numpy(), "uniform").pvalue > 1e-3
    scores = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().repeat(20_000, 1)
    drawn = choice_by(secret_uniforms(20_000, uniforms_of_choice(scores)), scores)
    observed = np.bincount(drawn.numpy(), minlength=4)
    assert stats.chisquare(observed, 20_000 * np.array([0.1, 0.2, 0.3, 0.4])).pvalue > 1e-3
