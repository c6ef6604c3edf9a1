"""The known families, and where the blocks, the final norm and the head of each are.

This is the only file that knows the inside of a model; everything per block goes through it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel
from transformers.activations import NewGELUActivation

from common.errors import UserError


@dataclass(frozen=True)
class Family:
    """One decoder family.

    Attributes:
        name: The model type of its Hugging Face configuration.
        trunk: Dotted path of the module that maps tokens to the inputs of the head.
        blocks: Dotted path of the list of transformer blocks, input side first.
        final_norm: Dotted path of the norm behind the last block.
    """

    name: str
    trunk: str
    blocks: str
    final_norm: str


_LIKE_LLAMA = (
    *("llama", "qwen2", "qwen3", "qwen3_moe", "gemma2", "gemma3_text", "smollm3", "mistral"),
    *("phi3", "olmo2", "granite", "cohere", "stablelm"),
)
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("gpt2", "transformer", "transformer.h", "transformer.ln_f"),
        Family("opt", "model", "model.decoder.layers", "model.decoder.final_layer_norm"),
        *(Family(name, "model", "model.layers", "model.norm") for name in _LIKE_LLAMA),
        Family("gpt_neox", "gpt_neox", "gpt_neox.layers", "gpt_neox.final_layer_norm"),
        Family("gpt_neo", "transformer", "transformer.h", "transformer.ln_f"),
        Family("falcon", "transformer", "transformer.h", "transformer.ln_f"),
        Family("phi", "model", "model.layers", "model.final_layernorm"),
    )
}


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
