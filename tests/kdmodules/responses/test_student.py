"""Fresh samples: what is scored is what the model said, whatever the batch."""

from dataclasses import replace

import pytest
import torch

from common.errors import UserError
from datamodules.batches import EncodedRecord, collate
from kdmodules.responses import StudentResponses
from kdmodules.responses.rewriting import replace_responses
from kdmodules.sampling.keyed_choice import RandomScope, keyed_choice
from kdmodules.sampling.sampler import SamplingSettings
from tests.kdmodules.responses.conftest import (
    MakeContext,
    batch_of,
    prompts,
    random_records,
    scored,
)

SAMPLING = SamplingSettings(max_new_tokens=12)


def naive(context, record: EncodedRecord, step: int) -> tuple[int, ...]:
    """The record's sample by a loop without cache, padding or batch."""
    keys = RandomScope(context.seed, "student responses", step).keys([record.record_id])
    ids = list(record.prompt_ids)
    for position in range(SAMPLING.max_new_tokens):
        with torch.no_grad():
            logits = context.student.model(torch.tensor([ids])).logits[:, -1]
        ids.append(int(keyed_choice(logits, keys, position)))
        if ids[-1] == context.encoder.eos_id:
            break
    return tuple(ids[len(record.prompt_ids) :])


def test_what_is_scored_is_what_the_student_says(make_context: MakeContext) -> None:
    records = random_records(6)
    context = make_context(records, step=5)
    context.student.train()
    batch = batch_of(records)
    replaced = StudentResponses(SAMPLING).replace(batch, context)
    assert context.student.training
    context.student.eval()
    assert prompts(replaced) == [record.prompt_ids for record in records]
    assert scored(replaced) == {r.record_id: naive(context, r, 5) for r in records}


def test_text_depends_on_step_and_record_alone(make_context: MakeContext) -> None:
    records = random_records(8)
    context = make_context(records, step=3)
    source = StudentResponses(SAMPLING, sampling_batch_size=3)
    whole = scored(source.replace(batch_of(records), context))
    again = {}
    for part in (records[5:], records[2:5], records[:2]):
        again |= scored(source.replace(batch_of(part), context))
    assert again == whole
    later = scored(source.replace(batch_of(records), replace(context, step=4)))
    assert sum(later[name] != whole[name] for name in whole) >= 6


def test_fillers_stay_fillers(make_context: MakeContext) -> None:
    filler = EncodedRecord("", "open_qa", (5, 6), (), False, False)
    records = [*random_records(2), filler]
    context = make_context(records)
    replaced = StudentResponses(SAMPLING).replace(batch_of(records), context)
    assert scored(replaced)[""] == ()
    assert len(scored(replaced)["r0"]) > 0
    alone = batch_of([filler])
    assert StudentResponses(SAMPLING).replace(alone, context) is alone


def test_a_cut_response_has_no_eos_and_an_ended_one_scores_it(make_context: MakeContext) -> None:
    records = random_records(4)
    context = make_context(records)
    with torch.no_grad():
        # A head that prefers one token, first any but eos, then eos itself.
        head = context.student.model.get_output_embeddings()
        head.weight.zero_()
    bias = torch.zeros(head.weight.shape[0])
    head.register_forward_hook(lambda _m, _a, out: out + bias.to(out))
    eos = context.encoder.eos_id
    bias[7] = 1e4
    cut = scored(StudentResponses(SAMPLING).replace(batch_of(records), context))
    assert set(cut.values()) == {(7,) * SAMPLING.max_new_tokens}
    bias[7], bias[eos] = 0.0, 1e4
    ended = StudentResponses(SAMPLING).replace(batch_of(records), context)
    assert set(scored(ended).values()) == {(eos,)}


def test_a_window_that_is_too_small_is_refused(make_context: MakeContext) -> None:
    with pytest.raises(UserError, match="max_prompt_tokens=100 and max_new_tokens=13"):
        StudentResponses(SamplingSettings(max_new_tokens=13)).prepare(make_context([]))
    StudentResponses(SAMPLING).prepare(make_context([]))


@pytest.mark.parametrize("side", ["left", "right"])
def test_masks_come_from_lengths(side: str) -> None:
    records = random_records(3)
    # The padding id is also a prompt's last token, a response token and the end.
    own = replace(records[0], prompt_ids=(4, 1), response_ids=(1, 9, 1))
    batch = collate([own, *records[1:]], pad_id=1, padding_side=side)
    replaced = replace_responses(batch, {0: (1, 1), 2: (1,)}, pad_id=1)
    assert prompts(replaced) == [(4, 1), records[1].prompt_ids, records[2].prompt_ids]
    assert scored(replaced) == {"r0": (1, 1), "r1": records[1].response_ids, "r2": (1,)}
    filler = batch_of([replace(own, record_id="")])
    with pytest.raises(ValueError, match="row 0 is a filler"):
        replace_responses(filler, {0: (1,)}, pad_id=1)
