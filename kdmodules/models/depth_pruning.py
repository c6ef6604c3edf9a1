"""A shallower model from the blocks of a deeper one."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from common.errors import UserError
from kdmodules.models.anatomy import blocks_path, transformer_blocks
from kdmodules.models.architectures import new_model

_NUMBERED = ("layer_idx", "layer_id", "layer_number")
"""How a module notes its own place, which pruning changes."""


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
        UserError: If the stride is below 1 or larger than the depth, or if the architecture builds
            a block by its place in a way that its configuration does not list.
    """
    depth = len(transformer_blocks(model))
    if not 1 <= stride <= depth:
        raise UserError(
            f"model.network.depth_stride is {stride} but the source has {depth} blocks: give a "
            f"number from 1 to {depth}"
        )
    if stride == 1:
        return model
    config = pruned_config(model.config, stride)
    with torch.device("meta"):
        pruned = new_model(config, model.dtype)
    _require_same_blocks(model, pruned, stride)
    kept = _kept_tensors(model, stride)
    pruned.load_state_dict({name: kept[name] for name in pruned.state_dict()}, assign=True)
    # Rotary frequencies are buffers that no state dict holds.
    for name in [name for name, _ in pruned.named_buffers()]:
        owner, _, leaf = name.rpartition(".")
        setattr(pruned.get_submodule(owner), leaf, kept[name])
    pruned.tie_weights()
    return pruned.train(model.training)


def pruned_config(config: PreTrainedConfig, stride: int) -> PreTrainedConfig:
    """Returns the configuration of what keeping every n-th block leaves.

    Lists with an entry for each block, such as ``layer_types``, are cut with the blocks.

    Raises:
        UserError: If the architecture has no such configuration.
    """
    depth = config.num_hidden_layers
    cut = copy.deepcopy(config)
    each = {
        name: list(value[::stride])
        for name, value in vars(config).items()
        if isinstance(value, list | tuple) and len(value) == depth > 1
        if not name.endswith("token_id")
    }
    for name, entries in each.items():
        setattr(cut, name, entries)
    # GPT-2's configuration knows its n_layer by this name too.
    cut.num_hidden_layers = len(range(0, depth, stride))
    again = type(cut).from_dict(cut.to_dict())
    for name, entries in each.items():
        if list(getattr(again, name)) != entries:
            raise UserError(
                f"model.network.depth_stride is {stride}, but the configuration of a "
                f"{config.model_type} model cannot be cut: its {name} would not be kept"
            )
    return cut


def _require_same_blocks(model: PreTrainedModel, pruned: PreTrainedModel, stride: int) -> None:
    """Refuses blocks that would compute something else at their new place."""
    for index, block in enumerate(transformer_blocks(pruned)):
        ours, theirs = _built_as(block), _built_as(transformer_blocks(model)[index * stride])
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                raise UserError(
                    f"model.network.depth_stride is {stride}, but a {model.config.model_type} "
                    f"model builds its blocks by their places: {name} of block {index * stride} "
                    f"is {theirs.get(name)!r} and would become {ours.get(name)!r}"
                )


def _built_as(block: nn.Module) -> dict[str, Any]:
    """Returns the shapes and plain settings of a block's modules."""
    found: dict[str, Any] = {name: list(value.shape) for name, value in block.named_parameters()}
    for path, module in block.named_modules():
        for name, value in vars(module).items():
            plain = isinstance(value, bool | int | float | str) and name[0] != "_"
            if plain and name not in (*_NUMBERED, "training"):
                found[f"{path}.{name}".lstrip(".")] = value
    return found


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
