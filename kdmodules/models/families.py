"""The three families, and where the blocks, the final norm and the head of each are.

This is the only file that knows the inside of a model; everything per block goes through it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from transformers import (
    GPT2LMHeadModel,
    LlamaForCausalLM,
    OPTForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.activations import NewGELUActivation

from common.errors import UserError


@dataclass(frozen=True)
class Family:
    """One decoder family.

    Attributes:
        name: The family's id: gpt2, opt or llama.
        model_class: The causal language model that the configuration builds.
        trunk: Dotted path of the module that maps tokens to the inputs of the head.
        blocks: Dotted path of the list of transformer blocks, input side first.
        final_norm: Dotted path of the norm behind the last block.
        adapter_targets: Names inside a block of the query and value projections, which an adapter
            without targets of its own goes to. GPT-2's one projection holds the key too.
        sizes: Names in its configuration that a network's size follows from; `kd-study plan` takes
            no default for one that a published network's fragment leaves out.
    """

    name: str
    model_class: type[PreTrainedModel]
    trunk: str
    blocks: str
    final_norm: str
    adapter_targets: tuple[str, ...]
    sizes: tuple[str, ...]

    @property
    def config_class(self) -> type[PreTrainedConfig]:
        """The Hugging Face configuration of the family."""
        return cast(type[PreTrainedConfig], self.model_class.config_class)


_QUERY_AND_VALUE = ("q_proj", "v_proj")
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            name="gpt2",
            model_class=GPT2LMHeadModel,
            trunk="transformer",
            blocks="transformer.h",
            final_norm="transformer.ln_f",
            adapter_targets=("c_attn",),
            sizes=("vocab_size", "n_positions", "n_layer", "n_embd"),
        ),
        Family(
            name="opt",
            model_class=OPTForCausalLM,
            trunk="model",
            blocks="model.decoder.layers",
            final_norm="model.decoder.final_layer_norm",
            adapter_targets=_QUERY_AND_VALUE,
            sizes=(
                *("vocab_size", "max_position_embeddings", "num_hidden_layers", "hidden_size"),
                *("word_embed_proj_dim", "ffn_dim"),
            ),
        ),
        Family(
            name="llama",
            model_class=LlamaForCausalLM,
            trunk="model",
            blocks="model.layers",
            final_norm="model.norm",
            adapter_targets=_QUERY_AND_VALUE,
            sizes=(
                *("vocab_size", "num_hidden_layers", "hidden_size", "intermediate_size"),
                *("num_attention_heads", "num_key_value_heads", "tie_word_embeddings"),
            ),
        ),
    )
}


def new_model(config: PreTrainedConfig, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Builds a model of a known family with random weights, as every model here computes."""
    model_class = FAMILIES[config.model_type].model_class
    return model_class._from_config(config, dtype=dtype, attn_implementation="sdpa")


def family_of(model: PreTrainedModel) -> Family:
    """Returns the family of a Hugging Face causal language model.

    Raises:
        UserError: If the model's type is none of the known families.
    """
    family = FAMILIES.get(model.config.model_type)
    if family is None:
        raise UserError(
            f"model type {model.config.model_type!r} is not one of {', '.join(FAMILIES)}: add an "
            "entry to FAMILIES in kdmodules/models/families.py that names its parts"
        )
    return family


def _resolve(model: PreTrainedModel, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise UserError(
            f"{type(model).__name__} has no module {path!r}: correct the paths of family "
            f"{model.config.model_type!r} in kdmodules/models/families.py"
        ) from error


def trunk(model: PreTrainedModel) -> nn.Module:
    """Returns the module that maps token ids to the inputs of the head: embeddings to norm."""
    return _resolve(model, family_of(model).trunk)


def blocks(model: PreTrainedModel) -> nn.ModuleList:
    """Returns the transformer blocks, input side first."""
    stacked = _resolve(model, family_of(model).blocks)
    if not isinstance(stacked, nn.ModuleList):
        raise UserError(
            f"{family_of(model).blocks!r} of {type(model).__name__} is not a list of blocks"
        )
    return stacked


def final_norm(model: PreTrainedModel) -> nn.Module:
    """Returns the norm behind the last block; the identity where the model has none (OPT-350M)."""
    owner, _, name = family_of(model).final_norm.rpartition(".")
    norm = getattr(_resolve(model, owner), name)
    return nn.Identity() if norm is None else norm


def head(model: PreTrainedModel) -> nn.Module:
    """Returns the map from the final norm's output to logits.

    For OPT-350M this is its output projection followed by the language-model head, for every other
    model the language-model head alone.
    """
    lm_head = model.get_output_embeddings()
    projection = getattr(
        getattr(_resolve(model, family_of(model).trunk), "decoder", None), "project_out", None
    )
    return lm_head if projection is None else nn.Sequential(projection, lm_head)


def fuse_activations(model: nn.Module) -> None:
    """Lets PyTorch's own kernel compute GELU's tanh form, in place.

    The published GPT-2 configurations name ``gelu_new``, which transformers writes as eight tensor
    operations: autograd keeps four tensors of the block's inner width for it where the kernel keeps
    one, and in bfloat16 each operation rounds. The function is the same, and so is the
    configuration, which exports carry on.
    """
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))


@contextmanager
def activations_kept(model: nn.Module) -> Iterator[None]:
    """Puts back, errors or not, the activations that `fuse_activations` replaces meanwhile."""
    before = [
        (module, name, child)
        for module in model.modules()
        for name, child in module.named_children()
        if isinstance(child, NewGELUActivation)
    ]
    try:
        yield
    finally:
        for module, name, child in before:
            setattr(module, name, child)


def context_window(model: PreTrainedModel) -> int:
    """Returns the longest sequence in tokens that the model accepts."""
    return int(model.config.max_position_embeddings)


def require_window(model: PreTrainedModel, max_tokens: int) -> None:
    """Refuses records that may be longer than the model's window.

    Raises:
        UserError: Naming both lengths.
    """
    window = context_window(model)
    if max_tokens > window:
        raise UserError(
            f"data.max_tokens is {max_tokens} but the {family_of(model).name} model's window is "
            f"{window} tokens: lower data.max_tokens"
        )
