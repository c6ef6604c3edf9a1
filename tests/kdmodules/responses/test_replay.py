"""DistiLLM's threshold by hand, its branches, one buffer, and exact continuation."""

import io
import json
from dataclasses import replace

import pytest
import torch

from common.errors import UserError
from datamodules.batches import EncodedRecord
from kdmodules.responses import AdaptiveReplay
from kdmodules.sampling.keyed_choice import RandomScope, keyed_uniforms
from kdmodules.sampling.sampler import SamplingSettings
from tests.kdmodules.responses.conftest import MakeContext, batch_of, random_records, scored

SAMPLING = SamplingSettings(max_new_tokens=3)


def uniform(step: int) -> float:
    """The number that decides a step, from the same key."""
    keys = RandomScope(0, "replay or fresh", step).keys([""])
    return keyed_uniforms(keys, 0, 1).item()


def test_the_threshold_moves_as_the_losses_say() -> None:
    source = AdaptiveReplay()
    assert source.needs_initial_loss
    found = []
    #      V0    +.09  +.1   vs 3.1  lower  vs 3.1  +.1
    for loss in (3.0, 3.09, 3.125, 3.2, 2.0, 3.15, 3.25):
        source.on_validation_loss(loss)
        found.append(source.metrics()["threshold"])
    assert not source.needs_initial_loss
    assert found == pytest.approx([0, 0, 0.1, 0.1, 0.1, 0.1, 0.2])
    for step in range(20):
        source.on_validation_loss(4.0 + step)
    assert source.threshold == 1.0


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("decreasing", [0.8, 0.6, 0.0]),
        ("constant", [0.4, 0.4, 0.4]),
        ("increasing", [0.0, 0.2, 0.8]),
    ],
)
def test_schedules(schedule: str, shares: list[float]) -> None:
    source = AdaptiveReplay(schedule, initial_threshold=0.8)
    assert [source.student_share(step, 100) for step in (0, 25, 100)] == pytest.approx(shares)


def test_every_step_follows_the_rule(make_context: MakeContext) -> None:
    records = random_records(4)
    source = AdaptiveReplay(capacity=8, initial_threshold=0.7, sampling=SAMPLING)
    kinds = []
    for step in range(40):
        u, share = uniform(step), 0.7 * (1 - step / 40)
        full = len(source.buffer) == 8
        expected = "fixed" if u >= 0.7 else "fresh" if u < share or not full else "replayed"
        before = list(source.buffer)
        batch = batch_of(records)
        found = source.replace(batch, make_context(records, step=step, total_steps=40))
        assert source.decide(make_context(records, step=step, total_steps=40)) == expected
        after = list(source.buffer)
        if expected == "fixed":
            assert found is batch
        if expected == "replayed":
            known = {(r.record_id, r.response_ids) for r in before}
            rows = zip(found.record_ids, found.response_mask, found.input_ids, strict=True)
            assert {(name, tuple(ids[mask].tolist())) for name, mask, ids in rows} <= known
        if expected == "fresh":
            pushed = [(r.record_id, r.response_ids) for r in after[-4:]]
            assert pushed == list(scored(found).items())
            assert after == [*before, *after[-4:]][-8:]
        else:
            assert after == before
        kinds.append(expected)
    assert set(kinds) == {"fresh", "replayed", "fixed"}
    shares = source.metrics()
    for kind in set(kinds):
        assert shares[f"share_{kind}"] == pytest.approx(kinds.count(kind) / 40)


def test_a_step_keeps_its_decision_while_the_buffer_fills(make_context: MakeContext) -> None:
    records = random_records(4)
    source = AdaptiveReplay("increasing", capacity=2, initial_threshold=1.0, sampling=SAMPLING)
    context = make_context(records, step=0, accumulate=2)
    first = source.replace(batch_of(records[:2]), context)
    second = source.replace(batch_of(records[2:]), replace(context, micro_batch=1))
    assert [r.record_id for r in source.buffer] == ["r2", "r3"]
    assert set(scored(first)) == {"r0", "r1"}
    assert set(scored(second)) == {"r2", "r3"}
    assert source.decide(make_context(records, step=1)) == "replayed"
    assert source.metrics()["share_fresh"] == 0.5


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_steps_pushes_are_in_one_order_whatever_its_parts(
    make_context: MakeContext, parts: int
) -> None:
    records = random_records(7)
    source = AdaptiveReplay("increasing", capacity=6, initial_threshold=1.0, sampling=SAMPLING)
    texts = {}
    for micro_batch in range(parts):
        context = make_context(records, accumulate=parts, micro_batch=micro_batch)
        assert not source.buffer
        # The data module deals a global batch in strides.
        texts |= scored(source.replace(batch_of(records[micro_batch::parts]), context))
    names = [f"r{index}" for index in range(1, 7)]
    assert [(r.record_id, r.response_ids) for r in source.buffer] == [(n, texts[n]) for n in names]


def test_fillers_are_neither_pushed_nor_drawn(make_context: MakeContext) -> None:
    filler = EncodedRecord("", "open_qa", (5, 6), (), False, False)
    records = [*random_records(2), filler]
    source = AdaptiveReplay("increasing", capacity=2, initial_threshold=1.0, sampling=SAMPLING)
    source.replace(batch_of(records), make_context(records, step=0))
    assert [r.record_id for r in source.buffer] == ["r0", "r1"]
    drawn = source.replace(batch_of(records), make_context(records, step=1))
    assert drawn.record_ids[2] == ""
    assert not drawn.response_mask[2].any()
    assert drawn.response_mask[:2].any(dim=1).all()


def test_state_continues_identically(make_context: MakeContext) -> None:
    records = random_records(4)

    def source() -> AdaptiveReplay:
        return AdaptiveReplay(capacity=6, initial_threshold=0.6, sampling=SAMPLING)

    def run(which: AdaptiveReplay, steps: range) -> list:
        found = []
        for step in steps:
            which.on_validation_loss(3.0 + step * 0.05)
            batch = which.replace(batch_of(records), make_context(records, step=step))
            found.append((batch.record_ids, scored(batch), which.metrics()))
        return found

    whole, first, second = source(), source(), source()
    expected = run(whole, range(30))
    found = run(first, range(13))
    saved = io.BytesIO()
    torch.save(first.state_dict(), saved)
    saved.seek(0)
    second.load_state_dict(torch.load(saved, weights_only=True))
    found += run(second, range(13, 30))
    assert found == expected
    assert json.dumps(second.state_dict()) == json.dumps(whole.state_dict())


@pytest.mark.parametrize(
    "options",
    [{"schedule": "rising"}, {"capacity": 0}, {"initial_threshold": 2.0}, {"threshold_step": -1.0}],
)
def test_bad_options_are_refused(options: dict) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        AdaptiveReplay(**options)
