"""A model that is named but not built yet: built whole, or sharded without ever being whole."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from common.errors import UserError
from kdmodules.models.adapters import Adapter, adapter_of
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.network import (
    Network,
    build_network,
    dropout_of,
    load_model,
    require_agreement,
    require_same_vocabulary,
)
from kdmodules.models.pretrained import DeviceMap, Dtype
from kdmodules.models.sharding import fill_shards, held_rows, shard_language_model
from kdmodules.models.weight_files import WeightFiles, find_weight_files, skeleton


@dataclass(frozen=True)
class Blueprint:
    """How to come by a model.

    Attributes:
        build: Builds it whole, on the CPU.
        find_files: Finds files that its weights can be read from shard by shard, after the same
            checks; None where there are none.
        device_map: Which devices it is loaded onto by parts; None builds it on the CPU.
    """

    build: Callable[[], PreTrainedModel]
    find_files: Callable[[], WeightFiles | None]
    device_map: DeviceMap | None = None


@dataclass(frozen=True)
class Placement:
    """Where a model's weights lie.

    Attributes:
        mesh: Over whose ranks they are sharded; None holds them whole.
        offload: Keep shards in host memory.
    """

    mesh: DeviceMesh | None = None
    offload: bool = False


@dataclass(frozen=True)
class _Plan:
    """What rank 0 found: the form of the model, and whether every rank reads its own shards."""

    config: PreTrainedConfig
    adapter: Adapter | None
    dtype: torch.dtype
    files: bool


def network_blueprint(network: Network, tokenizer: PreTrainedTokenizerBase, seed: int) -> Blueprint:
    """Returns the blueprint of a stage's model; errors are those of `build_network`.

    Only a source as it is can be read shard by shard: scratch weights, kept blocks and new adapters
    are made whole, by rank 0.
    """

    def find_files() -> WeightFiles | None:
        plain = network.depth_stride == 1 and network.adapter is None
        if network.source is None or not plain:
            return None
        require_same_vocabulary(network.source, tokenizer, network.adapter_base)
        files = find_weight_files(network.source, dropout_of(network), network.dtype)
        if files is not None:
            require_agreement(network, files.config)
        return files

    return Blueprint(partial(build_network, network, tokenizer, seed), find_files)


def source_blueprint(
    source: str,
    allow_pickle: bool = False,
    *,
    dtype: Dtype = "float32",
    adapter_base: str | None = None,
    device_map: DeviceMap | None = None,
) -> Blueprint:
    """Returns the blueprint of a model as it is stored; arguments are those of `load_model`."""
    build = partial(
        load_model,
        source,
        allow_pickle=allow_pickle,
        dtype=dtype,
        adapter_base=adapter_base,
        device_map=device_map,
    )
    return Blueprint(build, partial(find_weight_files, source, {}, dtype), device_map)


def realise(
    blueprint: Blueprint, vocabulary_size: int, placement: Placement | None = None
) -> CausalLM:
    """Builds the model; sharded, it is work for all ranks at once.

    Whole, it is built by this process alone and left on the CPU. Sharded, it is laid out on the
    meta device, and each rank reads its own rows of one parameter after another: beyond its shard
    it holds the rows of one parameter in host memory. Where there are no files that can be read so,
    rank 0 alone builds the whole model and deals one parameter at a time, of which the others hold
    one whole copy on the way.

    Args:
        blueprint: Which model.
        vocabulary_size: Number of valid tokens.
        placement: Where its weights lie; whole if not given.

    Raises:
        UserError: If the model cannot be had; on ranks other than 0 it says that rank 0 knows why.
    """
    placement = placement or Placement()
    if placement.mesh is None:
        return CausalLM(_built(blueprint), vocabulary_size)
    if blueprint.device_map is not None:
        raise UserError(
            f"device_map is {blueprint.device_map!r}, but a strategy that shards places the weights"
            " itself: leave one of them out"
        )
    plan, whole = _agreed(blueprint)
    files = blueprint.find_files() if plan.files else None
    if plan.files and files is None:
        raise UserError(
            "rank 0 reads the model from files that this machine does not have: put it where every "
            "node finds it"
        )
    lm = CausalLM(skeleton(plan.config, plan.adapter, plan.dtype), vocabulary_size)
    shard_language_model(lm, placement.mesh, placement.offload)
    device = _device(placement.mesh)
    read = partial(_dealt_rows, whole, device) if files is None else partial(_own_rows, files)
    fill_shards(lm, read, device, placement.offload)
    lm.compare_parts()
    # The root's own weights stay whole after a pass.
    cast(FSDPModule, lm).reshard()
    return lm


def _require_parameters_alone(model: PreTrainedModel) -> None:
    """Refuses a model with weights that are no parameters, which shards would leave behind."""
    known = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    others = sorted(model.state_dict().keys() - known)
    if others:
        raise UserError(
            f"a {model.config.model_type} model cannot be sharded: {others[0]} is a weight that is "
            "no parameter; hold it whole on each device"
        )


def _built(blueprint: Blueprint) -> PreTrainedModel:
    # Lightning sets the accelerator as the place of new tensors: its random numbers are others.
    with torch.device("cpu"):
        return blueprint.build()


def _device(mesh: DeviceMesh) -> torch.device:
    if mesh.device_type == "cpu":
        return torch.device("cpu")
    return torch.device(mesh.device_type, torch.accelerator.current_device_index())


def _agreed(blueprint: Blueprint) -> tuple[_Plan, dict[str, Tensor]]:
    """Returns what rank 0 found, and on rank 0 the whole weights where they must be dealt."""
    weights: dict[str, Tensor] = {}
    with _told_to_all() as told:
        if dist.get_rank() == 0:
            files = blueprint.find_files()
            if files is not None:
                told.append(_Plan(files.config, None, files.dtype, files=True))
            else:
                model = _built(blueprint)
                _require_parameters_alone(model)
                weights = {name: value.detach() for name, value in model.named_parameters()}
                plan = _Plan(model.config, adapter_of(model), model.dtype, files=False)
                told.append(plan)
    if told[0] is None:
        raise UserError("rank 0 could not load the model: its own message says why")
    return told[0], weights


@contextmanager
def _told_to_all() -> Iterator[list[_Plan | None]]:
    """Sends what rank 0 has put into the list to all ranks, None where it failed to."""
    told: list[_Plan | None] = []
    try:
        yield told
    finally:
        # Also on the way out of an error, or the other ranks would wait for rank 0 for ever.
        told[:] = told or [None]
        dist.broadcast_object_list(told, src=0)


def _own_rows(files: WeightFiles, name: str, empty: DTensor) -> Tensor:
    return files.rows(name, *held_rows(empty))


def _dealt_rows(
    weights: dict[str, Tensor], device: torch.device, name: str, empty: DTensor
) -> Tensor:
    """Returns this rank's rows of a parameter of rank 0, which forgets it."""
    if dist.get_rank() == 0:
        whole = weights.pop(name).to(device, empty.dtype)
    else:
        whole = torch.empty(empty.shape, dtype=empty.dtype, device=device)
    return distribute_tensor(whole, empty.device_mesh, empty.placements).to_local()
