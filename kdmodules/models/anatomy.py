"""Where the parts of a causal language model are, found by its structure; and whether they hold.

A model is taken apart into a trunk, which maps tokens to the inputs of the head, and the head; the
trunk into embeddings, blocks and the final norm. What is found is believed only after a comparison
with the model's own forward (`differing_part`).
"""

import inspect
import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from common.errors import UserError
from kdmodules.models.head import Head
from kdmodules.models.modes import evaluation_mode

_SOFT_CAPS = ("final_logit_softcapping", "output_logit_soft_cap", "logits_soft_cap")
_MULTIPLIERS = ("logit_scale", "lm_head_multiplier")
_DIVISORS = ("logits_scaling",)
_PROBE_LENGTHS = (6, 3)
_PROBE_SEED = 20_250_101


def text_config(model: PreTrainedModel) -> PreTrainedConfig:
    """Returns the configuration of the model's text part, which is its own where it has no other.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> text_config(GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=1))).num_hidden_layers
    1
    """
    return model.config.get_text_config(decoder=True)


def trunk(model: PreTrainedModel) -> nn.Module:
    """Returns the module that maps token ids to the inputs of the head: embeddings to norm.

    Raises:
        UserError: If the model has none.
    """
    base = model.base_model
    if base is model:
        raise UserError(f"{_named(model)} has no base module {model.base_model_prefix!r}")
    return base


def blocks_path(model: PreTrainedModel) -> str:
    """Returns the dotted path of the transformer blocks.

    They are the outermost list inside the trunk of as many modules as the configuration has hidden
    layers; a list whose members are all of one class comes before others.

    Raises:
        UserError: If there is no such list.
    """
    depth = getattr(text_config(model), "num_hidden_layers", None)
    inside = trunk(model)
    found = [
        name
        for name, module in inside.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    ]
    if not found:
        raise UserError(f"{_named(model)} has no list of {depth} blocks in its base module")
    # Of towers side by side (a vision model's) the text's has the decoder's name.
    decoder = model.get_decoder()
    own = [name for name in found if _within(decoder, inside.get_submodule(name))] or found

    def unlikely(name: str) -> tuple[int, int]:
        classes = {type(block) for block in inside.get_submodule(name).children()}
        return len(classes), name.count(".")

    return f"{model.base_model_prefix}.{min(own, key=unlikely)}"


def _within(whole: nn.Module, part: nn.Module) -> bool:
    return any(module is part for module in whole.modules())


def transformer_blocks(model: PreTrainedModel) -> nn.ModuleList:
    """Returns the transformer blocks, input side first.

    Raises:
        UserError: If none are found.
    """
    stacked = model.get_submodule(blocks_path(model))
    if not isinstance(stacked, nn.ModuleList):
        raise TypeError(f"the blocks of {_named(model)} are no list")
    return stacked


def final_norm(model: PreTrainedModel) -> nn.Module:
    """Returns the norm behind the last block: the last one beside the list of blocks.

    It is the identity where the model has none (OPT-350M).

    Raises:
        UserError: If no blocks are found.
    """
    beside = _owner(model).children()
    norms = [module for module in beside if "norm" in type(module).__name__.lower()]
    return norms[-1] if norms else nn.Identity()


def _owner(model: PreTrainedModel) -> nn.Module:
    return model.get_submodule(blocks_path(model).rpartition(".")[0])


def head_inputs(model: PreTrainedModel, stream: Tensor) -> Tensor:
    """Returns what the head is applied to, [..., E], for rows of the last stream, [..., D].

    It is behind the final norm and, for OPT-350M, its output projection.
    """
    normed = final_norm(model)(stream)
    projection = getattr(_owner(model), "project_out", None)
    return _scaled(model, normed if projection is None else projection(normed))


def _scaled(model: PreTrainedModel, states: Tensor) -> Tensor:
    """Returns states multiplied with what the model multiplies its logits with."""
    config = text_config(model)
    given = {name: getattr(config, name, None) for name in (*_MULTIPLIERS, *_DIVISORS)}
    numbers = {name: value for name, value in given.items() if isinstance(value, int | float)}
    scale = math.prod(1 / value if name in _DIVISORS else value for name, value in numbers.items())
    if scale == 1:
        return states
    return states.to(torch.promote_types(states.dtype, torch.float32)) * scale


def head_of(model: PreTrainedModel, whole: bool = False) -> Head:
    """Returns the head with its rows of padding.

    Args:
        model: The model.
        whole: Whether the model is run as a whole, so that its states are logits.
    """
    if whole:
        return Head(None)
    module, config = model.get_output_embeddings(), text_config(model)
    caps = [getattr(config, name, None) for name in _SOFT_CAPS]
    soft_cap = next((cap for cap in caps if cap is not None), None)
    return Head(module.weight, getattr(module, "bias", None), soft_cap)


def run(model: PreTrainedModel, inputs: Mapping[str, Any], whole: bool = False) -> Tensor:
    """Returns the inputs of the head, [B, T, D], or where it is run as a whole logits, [B, T, V].

    Args:
        model: The model.
        inputs: What its forward takes; position ids are left out where it takes none.
        whole: Whether its own forward is run, not its trunk.
    """
    entry = model if whole else trunk(model)
    given = dict(inputs)
    if "position_ids" not in inspect.signature(type(entry).forward).parameters:
        given.pop("position_ids", None)
    output = entry(**given)
    return output.logits if whole else _scaled(model, output.last_hidden_state)


def padded_inputs(input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
    """Returns what a forward is told of a batch that is padded on one side.

    Args:
        input_ids: Token ids, [B, T].
        attention_mask: 1 at real tokens, 0 at padding, [B, T].
    """
    inputs = {"input_ids": input_ids}
    # A causal model never looks right, so padding on the right needs no mask, and without one
    # scaled-dot-product attention takes its fast causal path.
    if not bool(attention_mask[:, 0].all()):
        positions = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
        inputs |= {"attention_mask": attention_mask, "position_ids": positions}
    return inputs


@torch.no_grad()
def differing_part(model: PreTrainedModel, vocabulary_size: int) -> str | None:
    """Says which part does not do what the model's own forward does; None where all do.

    Two short rows of tokens drawn from a fixed seed are run, padded on the right and on the left.
    Float32 logits must agree within 1e-5 (1 + their greatest), those of half precision with the
    same product rounded to it within two units in its last place, four behind a soft cap, whose
    steps the model rounds one by one.

    Args:
        model: With its weights; its modes are put back.
        vocabulary_size: Valid tokens.
    """
    try:
        stacked = transformer_blocks(model)
    except UserError as error:
        return str(error)
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(_PROBE_SEED)
    width = max(_PROBE_LENGTHS)
    embeddings = cast(nn.Embedding, model.get_input_embeddings())
    size = min(vocabulary_size, embeddings.weight.shape[0])
    shape = (len(_PROBE_LENGTHS), width)
    ids = torch.randint(size, shape, generator=generator, device="cpu").to(device)
    lengths = torch.tensor(_PROBE_LENGTHS, device=device).unsqueeze(1)
    right = (torch.arange(width, device=device) < lengths).long()
    # A caller may have set another device, or half precision, for new tensors.
    with evaluation_mode(model), torch.device(device):
        for mask in (right, right.flip(1)):
            part = _differing(model, stacked[-1], padded_inputs(ids, mask), mask.bool())
            if part is not None:
                return f"{_named(model)} differs in its {part} from what is known"
    return None


def _differing(
    model: PreTrainedModel, last_block: nn.Module, inputs: Mapping[str, Tensor], real: Tensor
) -> str | None:
    """Returns the name of the first part that differs at real tokens."""
    seen: dict[str, Tensor] = {}

    def keep_stream(module: nn.Module, args: object, output: Any) -> None:
        seen["stream"] = output if isinstance(output, Tensor) else output[0]

    def keep_inputs(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen["inputs"] = args[0]

    handles = (
        last_block.register_forward_hook(keep_stream),
        model.get_output_embeddings().register_forward_pre_hook(keep_inputs),
    )
    try:
        own = run(model, {**inputs, "use_cache": False}, whole=True)[real]
    finally:
        for handle in handles:
            handle.remove()
    states = run(model, {**inputs, "use_cache": False})[real]
    if "inputs" not in seen or not _agree(states, _scaled(model, seen["inputs"])[real]):
        return "trunk"
    if "stream" not in seen or not _agree(head_inputs(model, seen["stream"][real]), states):
        return "final norm"
    head = head_of(model)
    # What a model hands out as float32 may have been multiplied in half precision.
    precision = own.dtype if head.weight is None else head.weight.dtype
    logits, own = head.logits(states).to(precision), own.to(precision)
    return None if _agree(logits, own, 2 if head.soft_cap is None else 4) else "head"


def _agree(found: Tensor, expected: Tensor, units: int = 2) -> bool:
    """Tells whether numbers agree; those that are not finite must be the same.

    Args:
        found: Of the parts.
        expected: Of the model's own forward.
        units: By how many in the last place numbers of half precision may differ.
    """
    if found.shape != expected.shape:
        return False
    low = expected.dtype.itemsize < torch.float32.itemsize
    relative = units * torch.finfo(expected.dtype).eps if low else 0.0
    found, expected = found.double(), expected.double()
    finite = expected.isfinite()
    greatest = float(expected[finite].abs().max()) if bool(finite.any()) else 0.0
    near = torch.isclose(found, expected, relative, 1e-5 * (1 + greatest), equal_nan=True)
    return bool(near.all())


def _named(model: PreTrainedModel) -> str:
    return f"{type(model).__name__} (model type {model.config.model_type!r})"


def context_window(model: PreTrainedModel) -> int | None:
    """Returns the longest sequence in tokens that the model accepts; None where there is none."""
    window = getattr(text_config(model), "max_position_embeddings", None)
    return None if window is None else int(window)


def require_window(model: PreTrainedModel, max_tokens: int) -> None:
    """Refuses records that may be longer than the model's window.

    Raises:
        UserError: Naming both lengths.
    """
    window = context_window(model)
    if window is not None and max_tokens > window:
        raise UserError(
            f"data.max_tokens is {max_tokens} but the {model.config.model_type} model's window is "
            f"{window} tokens: lower data.max_tokens"
        )
