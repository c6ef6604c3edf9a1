"""Weights that are sharded over ranks are refused by name."""

from collections.abc import Iterator

import pytest
import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from callbacks.membership.signals import GradientNorm, WeightNoise
from callbacks.membership.signals.weights import named_weights
from datamodules.errors import UserError
from kdmodules.causal_lm import count_parameters
from kdmodules.sharding import shard_language_model
from tests.callbacks.membership.signals.conftest import access_of


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """A mesh of one process."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("signal", [GradientNorm(), WeightNoise(2, 0.1, True, True)])
def test_sharded_weights_are_refused(
    signal: GradientNorm | WeightNoise,
    family_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    mesh: DeviceMesh,
) -> None:
    access = access_of(family_model, tokenizer)
    shard_language_model(access.lm, mesh)
    with pytest.raises(UserError, match=f"{signal.label} needs whole weights and .* is sharded"):
        signal.measure(access, [], [])


def test_a_tied_head_counts_once(
    family_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    weights = named_weights(access_of(family_model, tokenizer).lm, "a signal")
    assert sum(weight.numel() for weight in weights.values()) == count_parameters(family_model)
    assert len({id(weight) for weight in weights.values()}) == len(weights)
