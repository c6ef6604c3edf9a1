"""Fully sharded parameters (FSDP2) for a wrapped language model."""

from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from kdmodules.causal_lm import CausalLM
from kdmodules.families import blocks


def shard_language_model(lm: CausalLM, mesh: DeviceMesh | None) -> None:
    """Shards a language model in place, block by block and then as a whole.

    Embeddings, final norm and head belong to the root: they are whole while the root's forward
    runs.

    Args:
        lm: The model; its root forward stays the only entry.
        mesh: The strategy's device mesh, over all of whose ranks parameters are sharded; None
            where the strategy does not shard, and then nothing happens.
    """
    if mesh is None:
        return
    flat = mesh._flatten("shards") if mesh.ndim > 1 else mesh
    for block in blocks(lm.model):
        fully_shard(block, mesh=flat)
    fully_shard(lm, mesh=flat)


def whole_weights(lm: CausalLM) -> dict[str, Tensor]:
    """Returns the Hugging Face model's weights, whole; work for all ranks at once.

    Returns:
        Weights by name: on the CPU of rank 0 and empty elsewhere where they are sharded, the live
        tensors where they are not.
    """
    if not any(isinstance(parameter, DTensor) for parameter in lm.model.parameters()):
        return lm.model.state_dict()
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    gathered = get_model_state_dict(lm.model, options=options)
    return {name: value for name, value in gathered.items() if isinstance(value, Tensor)}
