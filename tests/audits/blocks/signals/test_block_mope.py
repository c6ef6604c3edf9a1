"""Block-wise MoPe equals copies that are disturbed by hand; weights come back to the bit."""

import copy

import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from audits.blocks.cached_pass import CachedPass
from audits.blocks.signals import (
    Attribution,
    BlockAccess,
    BlockGradNorm,
    BlockMoPe,
    RerunSignal,
)
from audits.membership.signals import WeightNoise
from audits.membership.signals.weight_noise import weight_noise
from common.errors import UserError
from datamodules.records import InstructionRecord
from kdmodules.models.anatomy import blocks_path, transformer_blocks
from kdmodules.models.sharding import shard_language_model
from tests.audits.blocks.conftest import (
    batch_of,
    block_access,
    plain_log_likelihoods,
    tiny,
    unchanged,
)
from tests.audits.membership.signals.test_weights import mesh

__all__ = ["mesh"]

Tokenizer = PreTrainedTokenizerFast
Records = list[InstructionRecord]
RELATIVE = BlockMoPe(draws=3, rho=0.3)
PUBLISHED = BlockMoPe(draws=3, rho=None, sigma=0.05, antithetic=False)


def measured(signal: RerunSignal, access: BlockAccess, records: Records) -> Tensor:
    return signal.measure(access, access.model.encoder.encode_all(records))


@pytest.mark.parametrize("signal", [RELATIVE, PUBLISHED], ids=["relative", "published"])
def test_equals_whole_passes_of_disturbed_copies(
    any_model: PreTrainedModel, tokenizer: Tokenizer, few_records: Records, signal: BlockMoPe
) -> None:
    any_model.double()
    access = block_access(any_model, tokenizer, batch_size=2)
    with unchanged(any_model):
        found = measured(signal, access, few_records)
    batch = batch_of(access.model, few_records)
    prefix = blocks_path(any_model)

    def losses(block: int, draw: int, sign: int) -> Tensor:
        lm = copy.deepcopy(access.model.lm)
        for name, weight in lm.model.named_parameters():
            if name.startswith(f"{prefix}.{block}."):
                size = weight.detach().square().mean().sqrt() if signal.noise.relative else 1.0
                weight.data += (
                    sign * signal.noise.scale * size * weight_noise(weight, 0, draw, name)
                )
        return -plain_log_likelihoods(lm, batch)

    still = losses(0, 0, 0)
    for block in range(2):
        for draw in range(3):
            rises = [losses(block, draw, sign) - still for sign in signal.noise.signs]
            expected = torch.stack(rises).mean(dim=0)
            assert expected.abs().max() > 1e-4
            torch.testing.assert_close(found[:, block, draw], expected, atol=1e-6, rtol=0)


def test_noise_on_all_blocks_and_the_rest_is_that_of_the_whole_models_mope(
    any_model: PreTrainedModel,
    tokenizer: Tokenizer,
    few_records: Records,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    access = block_access(any_model, tokenizer)
    encoded = access.model.encoder.encode_all(few_records)
    by_block: list[dict[str, Tensor]] = []
    whole: list[dict[str, Tensor]] = []

    def snapshot() -> dict[str, Tensor]:
        return {name: one.detach().clone() for name, one in any_model.named_parameters()}

    rerun, mean_nll = CachedPass.rerun, WeightNoise._mean_nll
    with monkeypatch.context() as patch:
        patch.setattr(
            CachedPass, "rerun", lambda *a, **k: (by_block.append(snapshot()), rerun(*a, **k))[1]
        )
        patch.setattr(
            WeightNoise, "_mean_nll", lambda *a: (whole.append(snapshot()), mean_nll(*a))[1]
        )
        RELATIVE.measure(access, encoded)
        WeightNoise(3, 0.3, relative=True, antithetic=True).measure(access.model, encoded)
    still, disturbed = whole[0], whole[1:]
    assert len(by_block) == 2 * len(disturbed) == 12
    prefix = blocks_path(any_model)
    for state, own in enumerate(disturbed):
        for block in range(2):
            alone = by_block[block * 6 + state]
            for name, weight in own.items():
                inside = name.startswith(f"{prefix}.{block}.")
                assert torch.equal(alone[name], weight if inside else still[name]), name


def test_weights_and_hooks_come_back_after_anything(
    any_model: PreTrainedModel,
    tokenizer: Tokenizer,
    few_records: Records,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    access = block_access(any_model, tokenizer)
    with unchanged(any_model):
        measured(RELATIVE, access, few_records)
        with torch.inference_mode():
            measured(RELATIVE, access, few_records)
        with pytest.raises(FloatingPointError, match="cannot be scored"):
            measured(BlockMoPe(3, None, 1e39), access, few_records)
        block = transformer_blocks(any_model)[1]
        forward, calls = block.forward, []

        def interrupted(*args: object, **kwargs: object) -> Tensor:
            calls.append(1)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return forward(*args, **kwargs)

        monkeypatch.setattr(block, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            measured(RELATIVE, access, few_records)
        monkeypatch.undo()


def test_only_blocks_from_the_disturbed_one_on_run_again(
    tokenizer: Tokenizer, few_records: Records
) -> None:
    model = tiny("gpt2", tokenizer)
    access = block_access(model, tokenizer)
    calls = [0, 0]
    for index, block in enumerate(transformer_blocks(model)):
        block.register_forward_pre_hook(
            lambda module, args, index=index: calls.__setitem__(index, calls[index] + 1)
        )
    measured(RELATIVE, access, few_records)
    assert calls == [1 + 6, 1 + 6 + 6]


def test_autocast_does_not_reach_the_differences(
    tokenizer: Tokenizer, few_records: Records
) -> None:
    access = block_access(tiny("gpt2", tokenizer), tokenizer)
    found = measured(RELATIVE, access, few_records)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(measured(RELATIVE, access, few_records), found)


@pytest.mark.parametrize("signal", [RELATIVE, BlockGradNorm(), Attribution()])
def test_half_precision_weights_are_refused(
    signal: RerunSignal, tokenizer: Tokenizer, few_records: Records
) -> None:
    half = block_access(tiny("gpt2", tokenizer).bfloat16(), tokenizer)
    with pytest.raises(UserError, match=f"{signal.name} needs float32 weights"):
        measured(signal, half, few_records)


@pytest.mark.parametrize("signal", [BlockGradNorm(), Attribution()])
def test_gradients_refuse_sharded_weights(
    signal: RerunSignal, tokenizer: Tokenizer, few_records: Records, mesh: DeviceMesh
) -> None:
    access = block_access(tiny("gpt2", tokenizer), tokenizer)
    shard_language_model(access.model.lm, mesh)
    with pytest.raises(UserError, match=f"{signal.name} needs whole weights and .* is sharded"):
        measured(signal, access, few_records)


def test_options_are_checked() -> None:
    with pytest.raises(UserError, match="at least 3"):
        BlockMoPe(draws=2)
    for scales in ((None, None), (0.1, 0.1), (0.0, None)):
        with pytest.raises(UserError, match="one of them a positive"):
            BlockMoPe(3, *scales)
    assert PUBLISHED.params == {"draws": 3, "antithetic": False, "sigma": 0.05}
    assert RELATIVE.params == {"draws": 3, "antithetic": True, "rho": 0.3}
