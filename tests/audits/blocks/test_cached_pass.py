"""Running from a block on gives what running everything gives."""

import copy

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from audits.blocks.cached_pass import CachedPass
from datamodules.records import InstructionRecord
from kdmodules.models.anatomy import transformer_blocks
from tests.audits.blocks.conftest import (
    access_of,
    batch_of,
    plain_log_likelihoods,
    tiny,
    unchanged,
)

Tokenizer = PreTrainedTokenizerFast
Records = list[InstructionRecord]


@torch.no_grad()
def test_a_rerun_from_anywhere_is_the_model_itself(
    any_model: PreTrainedModel, tokenizer: Tokenizer, few_records: Records
) -> None:
    access = access_of(any_model.double(), tokenizer)
    batch = batch_of(access, few_records)
    expected = plain_log_likelihoods(access.lm, batch)
    with unchanged(any_model):
        cached = CachedPass.of(access.lm, batch)
        torch.testing.assert_close(cached.read(cached.stream), expected)
        for first in range(2):
            torch.testing.assert_close(cached.rerun(first), expected)
    torch.testing.assert_close(cached.rerun(2, hidden=cached.stream), expected)


@torch.no_grad()
@pytest.mark.parametrize("family", ["gpt2", "opt", "llama"])
@pytest.mark.parametrize("block", [0, 1])
def test_another_block_in_place_of_the_own_one(
    family: str, block: int, tokenizer: Tokenizer, few_records: Records
) -> None:
    access = access_of(tiny(family, tokenizer).double(), tokenizer)
    donor = transformer_blocks(tiny(family, tokenizer, seed=2).double().eval())[block]
    batch = batch_of(access, few_records)
    found = CachedPass.of(access.lm, batch).rerun(block, replaced={block: donor})
    swapped = copy.deepcopy(access.lm)
    transformer_blocks(swapped.model)[block] = donor
    torch.testing.assert_close(found, plain_log_likelihoods(swapped, batch))
    assert (found - plain_log_likelihoods(access.lm, batch)).abs().max() > 1e-3


@torch.no_grad()
def test_a_dropped_block_is_skipped(tokenizer: Tokenizer, few_records: Records) -> None:
    access = access_of(tiny("gpt2", tokenizer).double(), tokenizer)
    batch = batch_of(access, few_records)
    cached = CachedPass.of(access.lm, batch)
    found = cached.rerun(1, hidden=cached.calls[0].hidden)
    shorter = copy.deepcopy(access.lm)
    del transformer_blocks(shorter.model)[0]
    torch.testing.assert_close(found, plain_log_likelihoods(shorter, batch))
