"""The three families that are trained by name. Where a model's parts are, `anatomy` finds out."""

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
        adapter_targets: Names inside a block of the query and value projections, which an adapter
            without targets of its own goes to. GPT-2's one projection holds the key too.
        sizes: Names in its configuration that a network's size follows from; `kd-study plan` takes
            no default for one that a published network's fragment leaves out.
    """

    name: str
    model_class: type[PreTrainedModel]
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
            adapter_targets=("c_attn",),
            sizes=("vocab_size", "n_positions", "n_layer", "n_embd"),
        ),
        Family(
            name="opt",
            model_class=OPTForCausalLM,
            adapter_targets=_QUERY_AND_VALUE,
            sizes=(
                *("vocab_size", "max_position_embeddings", "num_hidden_layers", "hidden_size"),
                *("word_embed_proj_dim", "ffn_dim"),
            ),
        ),
        Family(
            name="llama",
            model_class=LlamaForCausalLM,
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
            "entry to FAMILIES in kdmodules/models/families.py"
        )
    return family


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
