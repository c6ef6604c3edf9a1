"""Weights that are sharded over ranks are refused by name, or given as shards."""

from collections.abc import Iterator

import pytest
import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from audits.membership.signals import GradientNorm
from audits.membership.signals.weights import named_weights
from common.errors import UserError
from kdmodules.models.causal_lm import count_parameters
from kdmodules.models.sharding import shard_language_model
from tests.audits.membership.signals.conftest import access_of


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """A mesh of one process."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def test_sharded_weights_are_refused(
    family_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, mesh: DeviceMesh
) -> None:
    signal = GradientNorm()
    access = access_of(family_model, tokenizer)
    shard_language_model(access.lm, mesh)
    with pytest.raises(UserError, match=f"{signal.label} needs whole weights and .* is sharded"):
        signal.measure(access, [])


def test_shards_are_given_where_the_root_is_still_whole(
    family_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, mesh: DeviceMesh
) -> None:
    lm = access_of(family_model, tokenizer).lm
    shapes = {name: weight.shape for name, weight in lm.model.named_parameters()}
    shard_language_model(lm, mesh)
    with torch.no_grad():
        lm(lambda lm: lm.states(torch.tensor([[1, 2]]), torch.ones(1, 2, dtype=torch.int64)))
    assert not all(isinstance(weight, DTensor) for weight in lm.model.parameters())
    weights = named_weights(lm, "a signal", whole=False)
    assert all(isinstance(weight, DTensor) for weight in weights.values())
    assert {name: weight.shape for name, weight in weights.items()} == shapes


def test_a_tied_head_counts_once(
    family_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    weights = named_weights(access_of(family_model, tokenizer).lm, "a signal")
    assert sum(weight.numel() for weight in weights.values()) == count_parameters(family_model)
    assert len({id(weight) for weight in weights.values()}) == len(weights)
