"""Fully sharded parameters (FSDP2) for a wrapped language model."""

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FullyShardedDataParallel,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor

from kdmodules.models.anatomy import transformer_blocks
from kdmodules.models.causal_lm import CausalLM

ReadShard = Callable[[str, DTensor], Tensor]
"""From a parameter's name and its empty shard to the rows that this rank holds."""


def shard_language_model(lm: CausalLM, mesh: DeviceMesh | None, offload: bool = False) -> None:
    """Shards a language model in place, block by block and then as a whole.

    Embeddings, final norm and head belong to the root: they are whole from the root's first forward
    on.

    Args:
        lm: The model; its root forward stays the only entry.
        mesh: The strategy's device mesh, over all of whose ranks parameters are sharded; None
            where the strategy does not shard, and then nothing happens.
        offload: Keep the shards in host memory; a block visits the device for its forward.
    """
    if mesh is None:
        return
    flat = mesh._flatten("shards") if mesh.ndim > 1 else mesh
    pinned = mesh.device_type != "cpu"
    policy = CPUOffloadPolicy(pin_memory=pinned) if offload else OffloadPolicy()
    for block in transformer_blocks(lm.model):
        fully_shard(block, mesh=flat, offload_policy=policy)
    fully_shard(lm, mesh=flat, offload_policy=policy)


def held_rows(weight: DTensor) -> tuple[int, int]:
    """Returns the first row that this rank holds of a sharded weight, and the one behind its last.

    Rows are cut as ``torch.chunk`` does: equally many for every rank but the last ones, which have
    fewer or none.
    """
    rows = weight.shape[0]
    a_rank = -(-rows // weight.device_mesh.size())
    start = min(weight.device_mesh.get_local_rank() * a_rank, rows)
    return start, min(start + a_rank, rows)


def fill_shards(lm: CausalLM, read: ReadShard, device: torch.device, offload: bool = False) -> None:
    """Gives a sharded model on the meta device its weights, one parameter at a time.

    Args:
        lm: The model as :func:`shard_language_model` left it; its buffers are real already.
        read: Returns the rows of this rank; called once per parameter in the same order on all
            ranks, a tied head once.
        device: Where the model computes.
        offload: Whether the shards stay in host memory.
    """
    owners: dict[int, list[tuple[nn.Module, str]]] = defaultdict(list)
    for module in lm.model.modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            owners[id(parameter)].append((module, leaf))
        for leaf, buffer in module.named_buffers(recurse=False):
            setattr(module, leaf, buffer.to(device))
    for name, parameter in list(lm.model.named_parameters()):
        if not isinstance(parameter, DTensor):
            raise TypeError(f"{name} is not sharded")
        rows = read(name, parameter).to("cpu" if offload else device, parameter.dtype)
        shard = DTensor.from_local(
            rows,
            parameter.device_mesh,
            parameter.placements,
            run_check=False,
            shape=parameter.shape,
            stride=parameter.stride(),
        )
        filled = nn.Parameter(shard, requires_grad=parameter.requires_grad)
        for module, leaf in owners[id(parameter)]:
            setattr(module, leaf, filled)


def whole_weights(lm: CausalLM) -> dict[str, Tensor]:
    """Returns the Hugging Face model's weights, whole; work for all ranks at once.

    Returns:
        Weights by name: on the CPU of rank 0 and empty elsewhere where they are sharded, the live
        tensors where they are not.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    if isinstance(lm, FullyShardedDataParallel):
        # The older way has its own root around the module, and flattened weights inside.
        weights = get_model_state_dict(lm, options=options)
        gathered = {name.removeprefix("model."): value for name, value in weights.items()}
    elif any(isinstance(parameter, DTensor) for parameter in lm.model.parameters()):
        gathered = get_model_state_dict(lm.model, options=options)
    else:
        return lm.model.state_dict()
    return {name: value for name, value in gathered.items() if isinstance(value, Tensor)}
