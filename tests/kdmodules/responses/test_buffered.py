"""What the released code trains on: draws from a buffer that holds more than the fresh batch."""

import io
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from common.errors import UserError
from datamodules.batches import EncodedRecord
from kdmodules.losses import ForwardKL, KDStep
from kdmodules.responses import BufferedResponses, MixedResponses, StudentResponses
from kdmodules.sampling.sampler import SamplingSettings
from tests.kdmodules.responses.conftest import (
    MakeContext,
    batch_of,
    prompts,
    random_records,
    scored,
)

SAMPLING = SamplingSettings(max_new_tokens=4)
Sequence = tuple[tuple[int, ...], tuple[int, ...]]


def sequences(batch) -> list[Sequence]:
    """Prompt and scored tokens of each row; draws may repeat a record."""
    rows = zip(batch.input_ids, batch.response_mask, strict=True)
    return list(zip(prompts(batch), [tuple(ids[mask].tolist()) for ids, mask in rows], strict=True))


def test_a_step_trains_on_draws_from_all_that_the_buffer_holds(make_context: MakeContext) -> None:
    records = sorted(random_records(40), key=lambda record: record.record_id)
    source, fresh_source = (
        BufferedResponses(1.0, capacity=12, sampling=SAMPLING),
        StudentResponses(SAMPLING),
    )
    held: list[Sequence] = []
    old = total = 0
    for step in range(10):
        batch, context = batch_of(records[4 * step : 4 * step + 4]), make_context(records, step)
        fresh = sequences(fresh_source.replace(batch, context))
        held = [*held, *fresh][-12:]
        drawn = sequences(source.replace(batch, context))
        assert len(drawn) == 4
        assert set(drawn) <= set(held)
        assert [(r.prompt_ids, r.response_ids) for r in source.buffer] == held
        old += sum(row not in fresh for row in drawn)
        total += 4 if step >= 2 else 0
    # A full buffer of three batches: two in three draws are of an earlier step.
    assert old / total == pytest.approx(2 / 3, abs=0.2)
    assert source.metrics() == {"buffered": 12.0}


def test_the_coin_is_that_of_mixed_responses(make_context: MakeContext) -> None:
    records = random_records(4)
    buffered = BufferedResponses(0.5, sampling=SAMPLING)
    mixed = MixedResponses(0.5, sampling=SAMPLING)
    kept = []
    for step in range(12):
        batch, context = batch_of(records), make_context(records, step)
        kept.append(buffered.replace(batch, context) is batch)
        assert kept[-1] == bool(mixed.replace(batch, context).extras["from_dataset"].all())
    assert len(set(kept)) == 2
    assert len(buffered.buffer) == 4 * kept.count(False)


def test_ranks_share_one_buffer_and_their_number_changes_nothing(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = random_records(8)
    context = make_context(records)
    whole = BufferedResponses(1.0, sampling=SAMPLING)
    expected = sequences(whole.replace(batch_of(records), context))
    other = StudentResponses(SAMPLING).replace(batch_of(records[1::2]), context)
    responses = scored(other)
    theirs = [replace(r, response_ids=responses[r.record_id]) for r in records[1::2]]
    monkeypatch.setattr(type(context), "gather", lambda _, own: [*own, *theirs])
    half = BufferedResponses(1.0, sampling=SAMPLING)
    found = sequences(half.replace(batch_of(records[::2]), context))
    assert list(half.buffer) == list(whole.buffer)
    assert found == expected[::2]


def test_fillers_are_neither_pushed_nor_drawn(make_context: MakeContext) -> None:
    filler = EncodedRecord("", "open_qa", (5, 6), (), False, False)
    records = [*random_records(2), filler]
    source = BufferedResponses(1.0, sampling=SAMPLING)
    drawn = source.replace(batch_of(records), make_context(records))
    assert {r.record_id for r in source.buffer} == {"r0", "r1"}
    assert drawn.record_ids[2] == ""
    assert not drawn.response_mask[2].any()


def test_state_continues_identically(make_context: MakeContext) -> None:
    records = random_records(4)

    def run(which: BufferedResponses, steps: range) -> list:
        made = [which.replace(batch_of(records), make_context(records, s)) for s in steps]
        return [sequences(batch) for batch in made]

    def source() -> BufferedResponses:
        return BufferedResponses(0.7, capacity=6, sampling=SAMPLING)

    expected = run(source(), range(12))
    first, second = source(), source()
    found = run(first, range(5))
    saved = io.BytesIO()
    torch.save(first.state_dict(), saved)
    saved.seek(0)
    second.load_state_dict(torch.load(saved, weights_only=True))
    assert found + run(second, range(5, 12)) == expected


def released_loss(context, ids: list[tuple[int, ...]], prompt: list[int], eos: int) -> Tensor:
    """Forward KL of sampled text by the released layout: a table of ids and one of labels.

    Padding and eos are one id, taken out of the text; a label stands *at* its own token; what is
    averaged is every position that has a label, by the logits of that position.
    """
    width = max(len(one) for one in ids)
    table = torch.full((len(ids), width), eos)
    labels = torch.full((len(ids), width), -100)
    for row, (one, start) in enumerate(zip(ids, prompt, strict=True)):
        kept = torch.tensor([token for token in one if token != eos])
        table[row, : len(kept)] = kept
        labels[row, start : len(kept)] = kept[start:]
    q, p = (
        lm.model(input_ids=table).logits[..., : lm.vocabulary_size].double().log_softmax(-1)
        for lm in (context.student, context.teachers[0])
    )
    per_token = (p.exp() * (p - q)).sum(-1)
    return per_token[labels != -100].mean()


def test_unshifted_labels_distil_the_stop_and_not_the_first_token(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, eos = random_records(6), 0
    context = make_context(records)
    monkeypatch.setattr(BufferedResponses, "sampled", lambda self, batch, *_: batch)
    source = BufferedResponses(1.0, unshifted=True, sampling=SAMPLING)
    batch = source.replace(batch_of(records), context)
    targets = [
        ids[mask].tolist() for ids, mask in zip(batch.input_ids, batch.response_mask, strict=True)
    ]
    by_sequence = {record.prompt_ids: record for record in records}
    drawn = [by_sequence[ids[:-1]] for ids in prompts(batch)]
    assert targets == [list(record.response_ids[1:]) for record in drawn]
    assert all(found[-1] == eos for found in targets)
    lm, teacher = context.student, context.teachers[0]
    sums = ForwardKL()(
        KDStep(
            student_hidden=lm.hidden(batch),
            student_weight=lm.padded_head,
            targets=batch.targets(),
            teachers=((teacher.hidden(batch), teacher.padded_head),),
            vocabulary_size=lm.vocabulary_size,
        )
    )
    expected = released_loss(
        context,
        [record.prompt_ids + record.response_ids for record in drawn],
        [len(record.prompt_ids) for record in drawn],
        eos,
    )
    assert sums.total.item() / sums.n_tokens == pytest.approx(expected.item(), rel=1e-4)


def test_shifted_labels_score_all_of_a_response(make_context: MakeContext) -> None:
    records = random_records(6)
    drawn = BufferedResponses(1.0, sampling=SAMPLING).replace(
        batch_of(records), make_context(records)
    )
    assert set(prompts(drawn)) <= {record.prompt_ids for record in records}


@pytest.mark.parametrize("options", [{"probability": 1.5}, {"capacity": 0}])
def test_bad_options_are_refused(options: dict) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        BufferedResponses(**options)
