"""What our way of the step benchmark starts from and reports."""

import json
from dataclasses import replace

import pytest
import torch
from torch.utils.tensorboard.writer import SummaryWriter
from transformers import GPT2LMHeadModel

from benchmarks.lightning_step import Case, Workplace, fit, intervals
from datamodules.tokenizer import load_tokenizer

CASE = Case("off-policy", beta=0.5, on_policy=False, target=0.3, new_tokens=3)


def test_the_head_has_as_many_rows_as_asked_for_and_the_tokenizer_agrees(place: Workplace) -> None:
    for folder in (place.student, place.teacher):
        assert GPT2LMHeadModel.from_pretrained(folder).config.vocab_size == 1050
        assert len(load_tokenizer(str(folder))) == 1050


def test_records_are_written_as_the_data_module_reads_them(place: Workplace) -> None:
    rows = [json.loads(line) for line in place.records.read_text().splitlines()]
    assert 40 <= len(rows) <= 48
    assert all(row["instruction"] and row["response"] for row in rows)


def test_the_first_step_is_logged_but_not_timed(place: Workplace) -> None:
    run = fit(CASE, place, steps=2, seed=0)
    assert len(run.seconds) == 2
    assert len(run.losses) == len(run.batches) == 3
    assert [len(batch) for batch in run.batches] == [4, 4, 4]
    assert min(run.seconds) > 0


def test_the_first_loss_is_the_jsd_of_the_saved_models(place: Workplace) -> None:
    run = fit(CASE, place, steps=1, seed=3)
    student, teacher = (
        GPT2LMHeadModel.from_pretrained(path).double() for path in (place.student, place.teacher)
    )
    values = []
    for record in run.batches[0]:
        ids = torch.tensor([record.prompt_ids + record.response_ids])
        with torch.no_grad():
            q, p = (model(ids).logits[0].softmax(-1) for model in (student, teacher))
        for place_of_token in range(len(record.prompt_ids), ids.shape[1]):
            a, b = p[place_of_token - 1], q[place_of_token - 1]
            m = (a + b) / 2
            values.append(float(((a * (a / m).log()).sum() + (b * (b / m).log()).sum()) / 2))
    assert run.losses[0] == pytest.approx(sum(values) / len(values), rel=1e-4)


def test_another_seed_serves_other_batches_and_the_same_seed_the_same(place: Workplace) -> None:
    first, again, other = (fit(CASE, place, steps=1, seed=seed) for seed in (0, 0, 1))
    assert first.batches == again.batches != other.batches
    assert first.losses == again.losses


def test_on_policy_batches_are_noted_before_their_responses_are_replaced(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[float] = []
    original = SummaryWriter.add_scalar

    def keep(self: SummaryWriter, tag: str, value: float, *rest: object) -> None:
        if tag == "train/scored_tokens":
            scored.append(float(value))
        original(self, tag, value, *rest)

    monkeypatch.setattr(SummaryWriter, "add_scalar", keep)
    served = fit(CASE, place, steps=1, seed=0)
    sampled = fit(replace(CASE, on_policy=True), place, steps=1, seed=0)
    lengths = [float(sum(len(r.response_ids) for r in batch)) for batch in served.batches]
    assert scored[:2] == lengths
    assert max(scored[2:]) <= 4 * CASE.new_tokens
    assert sampled.batches == served.batches


def test_intervals_are_differences_of_neighbours() -> None:
    assert intervals([1.0, 1.5, 4.0]) == [0.5, 2.5]
