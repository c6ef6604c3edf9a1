"""The rendition of TRL's step against naive loops, our objective, and TRL where it is installed."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from benchmarks import trl_step
from benchmarks.lightning_step import Case, Workplace, fit
from benchmarks.trl_step import generalised_jsd, train_with_rendition, train_with_trl
from datamodules.batches import EncodedRecord
from kdmodules.losses import JensenShannon

CASE = Case("off-policy", beta=0.5, on_policy=False, target=0.3, new_tokens=5)


def logits(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(2, 4, 7, generator=generator, dtype=torch.float64)


def naive(student: Tensor, teacher: Tensor, beta: float) -> float:
    q, p = (x.softmax(-1).tolist() for x in (student, teacher))
    if beta == 0:
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    total = 0.0
    for a, b in zip(p, q, strict=True):
        m = beta * a + (1 - beta) * b
        total += beta * a * math.log(a / m) + (1 - beta) * b * math.log(b / m)
    return total


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5])
def test_the_loss_is_the_mean_divergence_of_the_scored_positions(beta: float) -> None:
    student, teacher = logits(0), logits(1)
    scored = torch.tensor([[True, False, True, True], [False, False, True, False]])
    rows = [naive(s, t, beta) for s, t in zip(student[scored], teacher[scored], strict=True)]
    found = generalised_jsd(student, teacher, scored, beta)
    assert float(found) == pytest.approx(sum(rows) / len(rows), rel=1e-12)
    ours = JensenShannon(beta).per_token(
        student[scored].log_softmax(-1), teacher[scored].log_softmax(-1)
    )
    assert float(found) == pytest.approx(float(ours.mean()), rel=1e-12)


def test_the_rendition_and_ours_report_the_same_losses(place: Workplace) -> None:
    mine = fit(CASE, place, steps=2, seed=0)
    theirs = train_with_rendition(CASE, place, mine.batches)
    assert len(theirs.seconds) == 2
    assert theirs.losses == pytest.approx(mine.losses, rel=0.02)


def test_without_padding_both_steps_are_the_same_training(place: Workplace) -> None:
    run = fit(replace(CASE, batch_size=1, lr=1e-2), place, steps=4, seed=0)
    theirs = train_with_rendition(replace(CASE, lr=1e-2), place, run.batches)
    assert theirs.losses == pytest.approx(run.losses, rel=1e-3)
    assert run.losses[-1] < 0.9 * run.losses[0]


def test_on_policy_inputs_score_fresh_tokens_up_to_the_first_end(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = GPT2LMHeadModel.from_pretrained(place.student)
    end = student.config.eos_token_id
    records = [EncodedRecord("a", "t", (5, 6, 7), (8,), False, False)]
    records.append(EncodedRecord("b", "t", (9,), (8, 8), False, False))
    fresh = torch.tensor([[11, end, 13, 14, 15], [21, 22, 23, 24, 25]])

    def generate(ids: Tensor, **options: object) -> Tensor:
        return torch.cat([ids, fresh], dim=1)

    monkeypatch.setattr(student, "generate", generate)
    ids, mask, scored = trl_step._inputs(replace(CASE, on_policy=True), student, records, 0)
    assert ids[:, :3].tolist() == [[5, 6, 7], [0, 0, 9]]
    assert mask.tolist() == [[1, 1, 1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1, 1, 1]]
    assert ids[scored].tolist() == [11, end, 21, 22, 23, 24, 25]


def test_the_rendition_is_what_trl_computes(place: Workplace) -> None:
    pytest.importorskip("trl")
    case = replace(CASE, lr=1e-2)
    batches = fit(case, place, steps=3, seed=0).batches
    for one in (case, replace(case, beta=0.0)):
        theirs = train_with_trl(one, place, batches)
        assert len(theirs.seconds) == 3
        assert train_with_rendition(one, place, batches).losses == pytest.approx(
            theirs.losses, rel=2e-3
        )
