"""Gradient norms and attributions equal autograd, finite differences and their own sums."""

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from audits.blocks.recorder import BlockCall, watching
from audits.blocks.signals import Attribution, BlockAccess, BlockGradNorm, RerunSignal
from audits.blocks.signals.attribution import TappedModel, conductance
from common.errors import UserError
from datamodules.batches import InstructionBatch, collate
from datamodules.records import InstructionRecord
from kdmodules.models.anatomy import transformer_blocks, trunk
from kdmodules.models.causal_lm import CausalLM
from tests.audits.blocks.conftest import (
    batch_of,
    block_access,
    plain_log_likelihoods,
    tiny,
    unchanged,
)
from tests.audits.membership.signals.conftest import mean_nll

Tokenizer = PreTrainedTokenizerFast
Records = list[InstructionRecord]


def measured(signal: RerunSignal, access: BlockAccess, records: Records) -> Tensor:
    with torch.inference_mode():
        return signal.measure(access, access.model.encoder.encode_all(records))


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_gradient_norms_equal_autograds(
    any_model: PreTrainedModel, tokenizer: Tokenizer, few_records: Records, p: float
) -> None:
    access = block_access(any_model.double(), tokenizer)
    frozen = next(transformer_blocks(any_model)[0].parameters())
    frozen.requires_grad_(False)
    with unchanged(any_model):
        found = measured(BlockGradNorm(p), access, few_records)
    any_model.requires_grad_(True)
    for row, one in enumerate(access.model.encoder.encode_all(few_records)):
        any_model.zero_grad()
        mean_nll(any_model, one, len(tokenizer)).backward()
        for block, module in enumerate(transformer_blocks(any_model)):
            flat = torch.cat([weight.grad.flatten() for weight in module.parameters()])
            torch.testing.assert_close(found[row, block, 0], flat.abs().pow(p).sum().pow(1 / p))


def scaled_updates(lm: CausalLM, batch: InstructionBatch, block: int, factor: float) -> Tensor:
    def hook(index: int, call: BlockCall, output: Tensor) -> Tensor | None:
        return call.hidden + factor * (output - call.hidden) if index == block else None

    with watching(lm.model, hook):
        return plain_log_likelihoods(lm, batch)


@torch.no_grad()
def test_attributions_equal_finite_differences_and_removal(
    any_model: PreTrainedModel, tokenizer: Tokenizer, few_records: Records
) -> None:
    access = block_access(any_model.double(), tokenizer)
    with unchanged(any_model):
        found = measured(Attribution(), access, few_records)
    assert found.shape == (4, 2, 2)
    lm, batch = access.model.lm, batch_of(access.model, few_records)
    whole = plain_log_likelihoods(lm, batch)
    # LLaMA's norms round to float32 whatever the weights are.
    step, tolerance = (3e-3, 3e-4) if any_model.config.model_type == "llama" else (1e-5, 1e-6)
    for block in range(2):
        up, down = (scaled_updates(lm, batch, block, 1 + sign * step) for sign in (1, -1))
        torch.testing.assert_close(
            found[:, block, 0], (up - down) / (2 * step), atol=tolerance, rtol=10 * tolerance
        )
        without = scaled_updates(lm, batch, block, 0.0)
        torch.testing.assert_close(found[:, block, 1], whole - without, atol=1e-6, rtol=0)
        assert (whole - without).abs().max() > 1e-3


def test_conductance_is_complete_with_the_mean_token_embedding(
    any_model: PreTrainedModel, tokenizer: Tokenizer, few_records: Records
) -> None:
    lm = block_access(any_model.double(), tokenizer).model.lm
    embedding = any_model.get_input_embeddings()
    for encoded in block_access(any_model, tokenizer).model.encoder.encode_all(few_records):
        batch = collate([encoded], 0)
        with unchanged(any_model):
            tapped = TappedModel(lm, batch)
            coarse, fine = conductance(tapped, 16), conductance(tapped, 64)
        mean = embedding.weight[: len(tokenizer)].mean(dim=0).detach()
        handle = embedding.register_forward_hook(lambda *a, mean=mean: mean.expand_as(a[2]))
        baseline = plain_log_likelihoods(lm, batch)[0]
        handle.remove()
        total = plain_log_likelihoods(lm, batch)[0] - baseline
        errors = [float((found.sum() - total).abs()) for found in (coarse, fine)]
        assert fine.shape == (3,)
        assert errors[1] < 2e-3 * (1 + float(total.abs()))
        assert errors[1] < errors[0] / 4
        # Every block output is a full cut, and would be given the same total.
        assert (fine[1] - fine[2]).abs() > 1e-6


def test_the_measure_holds_the_blocks_conductance(
    tokenizer: Tokenizer, few_records: Records
) -> None:
    access = block_access(tiny("llama", tokenizer), tokenizer)
    found = measured(Attribution(conductance_steps=8), access, few_records[:1])
    batch = batch_of(access.model, few_records[:1])
    expected = conductance(TappedModel(access.model.lm, batch), 8)
    torch.testing.assert_close(found[0, :, 2], expected[1:], atol=1e-5, rtol=1e-4)


def test_the_tapped_model_is_the_model(
    any_model: PreTrainedModel, tokenizer: Tokenizer, few_records: Records
) -> None:
    access = block_access(any_model.double(), tokenizer).model
    batch = batch_of(access, few_records[:1])
    tapped = TappedModel(access.lm, batch)
    found = tapped(tapped.embeddings.expand(3, -1, -1)).detach()
    torch.testing.assert_close(found, plain_log_likelihoods(access.lm, batch).expand(3))
    assert trunk(any_model) not in list(tapped.modules())


@pytest.mark.parametrize(
    ("signal", "at"), [(BlockGradNorm(), 2), (Attribution(), 2), (Attribution(), 4)]
)
def test_hooks_and_weights_come_back_after_an_interrupt(
    any_model: PreTrainedModel,
    tokenizer: Tokenizer,
    few_records: Records,
    monkeypatch: pytest.MonkeyPatch,
    signal: RerunSignal,
    at: int,
) -> None:
    access = block_access(any_model, tokenizer)
    block = transformer_blocks(any_model)[1]
    forward = block.forward
    calls: list[int] = []

    def interrupted(*args: object, **kwargs: object) -> Tensor:
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return forward(*args, **kwargs)

    with unchanged(any_model):
        with monkeypatch.context() as patch:
            patch.setattr(block, "forward", interrupted)
            with pytest.raises(KeyboardInterrupt):
                measured(signal, access, few_records)
        assert len(calls) == at


def test_options_are_checked() -> None:
    with pytest.raises(UserError, match="at least 1"):
        BlockGradNorm(0.5)
    with pytest.raises(UserError, match="at least 0"):
        Attribution(-1)
