"""Fully sharded parameters (FSDP2) for a wrapped language model."""

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

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
