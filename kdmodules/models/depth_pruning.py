"""A shallower model from the blocks of a deeper one."""

import copy

import torch
from torch import Tensor
from transformers import PreTrainedModel

from common.errors import UserError
from kdmodules.models.anatomy import blocks_path, transformer_blocks


def prune_depth(model: PreTrainedModel, stride: int) -> PreTrainedModel:
    """Keeps every n-th block of a model, starting with block 0, and everything around the blocks.

    DistilBERT starts so from every second block of its teacher (Sanh et al. 2019, arXiv 1910.01108,
    section 2). The blocks are numbered anew, so that each finds its own place in the cache.

    Args:
        model: A plain model.
        stride: Distance in blocks between two that are kept; 1 keeps them all.

    Returns:
        A model of the same configuration with ``ceil(depth / stride)`` blocks; it shares the
        tensors of ``model``.

    Raises:
        UserError: If the stride is below 1 or larger than the depth.
    """
    depth = len(transformer_blocks(model))
    if not 1 <= stride <= depth:
        raise UserError(
            f"model.network.depth_stride is {stride} but the source has {depth} blocks: give a "
            f"number from 1 to {depth}"
        )
    if stride == 1:
        return model
    config = copy.deepcopy(model.config)
    # GPT-2's configuration knows its n_layer by this name too.
    config.num_hidden_layers = len(range(0, depth, stride))
    with torch.device("meta"):
        pruned = type(model)._from_config(config, attn_implementation="sdpa")
    kept = _kept_tensors(model, stride)
    pruned.load_state_dict({name: kept[name] for name in pruned.state_dict()}, assign=True)
    # Rotary frequencies are buffers that no state dict holds.
    for name in [name for name, _ in pruned.named_buffers()]:
        owner, _, leaf = name.rpartition(".")
        setattr(pruned.get_submodule(owner), leaf, kept[name])
    pruned.tie_weights()
    return pruned.train(model.training)


def _kept_tensors(model: PreTrainedModel, stride: int) -> dict[str, Tensor]:
    """Returns weights and buffers that stay, under the names that they have in the pruned model."""
    prefix = blocks_path(model) + "."
    kept = {}
    for name, value in {**dict(model.named_buffers()), **model.state_dict()}.items():
        if name.startswith(prefix):
            index, _, rest = name.removeprefix(prefix).partition(".")
            if int(index) % stride:
                continue
            name = f"{prefix}{int(index) // stride}.{rest}"
        kept[name] = value
    return kept
