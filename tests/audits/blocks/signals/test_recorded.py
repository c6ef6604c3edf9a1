"""Logit lens and residual norms equal what the plain model's hidden states say."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from audits.blocks.profile import MeasuredSide
from audits.blocks.recorder import watching
from audits.blocks.recording import record_signals
from audits.blocks.signals import HiddenProbe, LogitLens, RecordedSignal, ResidualNorm
from audits.scoring.model_access import ModelAccess
from common.errors import UserError
from datamodules.records import InstructionRecord
from kdmodules.models.anatomy import head_inputs
from kdmodules.models.sharding import shard_language_model
from tests.audits.blocks.conftest import (
    access_of,
    batch_of,
    plain_log_likelihoods,
    tiny,
    unchanged,
)
from tests.audits.membership.signals.test_weights import mesh

__all__ = ["mesh"]

Tokenizer = PreTrainedTokenizerFast
Records = list[InstructionRecord]
SIGNALS: list[RecordedSignal] = [LogitLens(), ResidualNorm(), HiddenProbe()]


@torch.no_grad()
def recorded(access: ModelAccess, records: Records) -> list[Tensor]:
    return record_signals(access, access.encoder.encode_all(records), SIGNALS)


@torch.no_grad()
def streams(access: ModelAccess, one: InstructionRecord) -> tuple[list[Tensor], slice, Tensor]:
    """The residual stream before, between and behind the blocks, and where the response is."""
    (encoded,) = access.encoder.encode_all([one])
    ids = torch.tensor([encoded.prompt_ids + encoded.response_ids])
    found: list[Tensor] = []
    with watching(access.lm.model, lambda b, call, out: found.extend((call.hidden, out))):
        access.lm.model(ids)
    rows = slice(len(encoded.prompt_ids) - 1, -1)
    return [found[0], found[1], found[3]], rows, torch.tensor(encoded.response_ids)


@torch.no_grad()
def test_everything_equals_a_loop_over_records(
    any_model: PreTrainedModel, tokenizer: Tokenizer, few_records: Records
) -> None:
    access = access_of(any_model.double(), tokenizer)
    with unchanged(any_model):
        lens, norms, hidden = recorded(access, few_records)
    head = any_model.get_output_embeddings()
    for row, one in enumerate(few_records):
        found, rows, targets = streams(access, one)
        for block, (entered, left) in enumerate(zip(found, found[1:], strict=False)):
            logp = head(head_inputs(any_model, left))[0, rows, : len(tokenizer)].log_softmax(-1)
            expected = logp.gather(1, targets[:, None]).mean()
            torch.testing.assert_close(lens[row, block, 0], expected)
            states, before = left[0, rows], entered[0, rows]
            torch.testing.assert_close(hidden[row, block], states.mean(dim=0))
            sizes, cosines = [], []
            for after, start in zip(states, before, strict=True):
                update = after - start
                sizes.append(float(update.norm()))
                cosines.append(float(update @ start / (update.norm() * start.norm())))
            assert float(norms[row, block, 0]) == pytest.approx(np.mean(sizes), rel=1e-5)
            assert float(norms[row, block, 1]) == pytest.approx(np.mean(cosines), rel=1e-4)


@torch.no_grad()
def test_the_lens_at_the_last_block_is_the_models_own_loss(
    any_model: PreTrainedModel, tokenizer: Tokenizer, few_records: Records
) -> None:
    access = access_of(any_model, tokenizer)
    lens, _, _ = recorded(access, few_records)
    own = plain_log_likelihoods(access.lm, batch_of(access, few_records))
    torch.testing.assert_close(lens[:, -1, 0], own.double(), atol=1e-5, rtol=0)


def test_batches_and_order_change_nothing(
    any_model: PreTrainedModel, tokenizer: Tokenizer, few_records: Records
) -> None:
    every = recorded(access_of(any_model, tokenizer), few_records)
    single = recorded(access_of(any_model, tokenizer, batch_size=1), few_records)
    turned = recorded(access_of(any_model, tokenizer), few_records[::-1])
    for one, two, three in zip(every, single, turned, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(one, three.flip(0), atol=1e-5, rtol=1e-5)


def test_a_lens_on_some_blocks(tokenizer: Tokenizer, few_records: Records) -> None:
    access = access_of(tiny("gpt2", tokenizer), tokenizer)
    encoded = access.encoder.encode_all(few_records)
    (found,) = record_signals(access, encoded, [LogitLens([1])])
    assert found[:, 0].isnan().all()
    assert found[:, 1].isfinite().all()
    with pytest.raises(UserError, match="no block 2: the model's are 0 to 1"):
        record_signals(access, encoded, [LogitLens([0, 2])])
    for wrong in ([], [1, 0], [-1], [1, 1]):
        with pytest.raises(UserError, match="ascending"):
            LogitLens(wrong)


def test_gains_are_read_where_the_block_before_is() -> None:
    values = torch.arange(8.0, dtype=torch.float64).square().view(2, 4, 1)
    side = MeasuredSide(values, ["a", "b"], np.arange(2))
    whole = LogitLens().oppose(side, MeasuredSide(values, ["a", "b"], np.arange(2, 4)))
    assert [profile.blocks for profile in whole] == [(0, 1, 2, 3), (1, 2, 3)]
    np.testing.assert_array_equal(whole[1].member_scores, [[1, 3, 5], [9, 11, 13]])
    some = LogitLens([0, 2, 3]).oppose(side, side)
    assert [profile.blocks for profile in some] == [(0, 2, 3), (3,)]
    assert [profile.blocks for profile in LogitLens([0, 2]).oppose(side, side)] == [(0, 2)]


def test_a_record_that_cannot_be_scored_is_named(
    tokenizer: Tokenizer, few_records: Records
) -> None:
    model = tiny("gpt2", tokenizer)
    with torch.no_grad():
        model.lm_head.weight[:] = torch.nan
    access = access_of(model, tokenizer)
    with pytest.raises(FloatingPointError, match="record r3 cannot"):
        recorded(access, few_records)
    assert not any(module._forward_hooks for module in model.modules())


def test_sharded_weights_are_read_the_same(
    tokenizer: Tokenizer, few_records: Records, mesh: DeviceMesh
) -> None:
    for family in ("gpt2", "opt", "llama"):
        access = access_of(tiny(family, tokenizer), tokenizer)
        whole = recorded(access, few_records)
        shard_language_model(access.lm, mesh)
        for one, two in zip(recorded(access, few_records), whole, strict=True):
            torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-6)
