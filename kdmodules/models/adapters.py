"""Low-rank adapters (LoRA) in a causal language model: injected, merged, written as PEFT's.

LoRA (Hu et al. 2022, arXiv 2106.09685, equation 3) trains ``W + (alpha / r) B A`` with W frozen.
PEFT holds the layers; the model keeps its Hugging Face class, so its parts are where they were.
"""

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from common.errors import UserError
from common.options import require_at_least
from kdmodules.models.anatomy import transformer_blocks

if TYPE_CHECKING:
    from peft import LoraConfig

ADAPTER_NAME = "default"
"""Under which PEFT keeps the one adapter of a model."""
WEIGHTS_FILE = "adapter_model.safetensors"
_QUERY_AND_VALUE = (
    ("q_proj", "v_proj"),
    ("query", "value"),
    ("q_lin", "v_lin"),
    # One projection for query, key and value: the key is adapted with them.
    *((fused,) for fused in ("c_attn", "query_key_value", "qkv_proj", "Wqkv", "qkv", "att_proj")),
    # Multi-head latent attention, where a query comes in one step or in two.
    ("q_proj", "kv_b_proj"),
    ("q_b_proj", "kv_b_proj"),
)
"""Names of query and value projections in a block; the first of which all are there."""
PEFT_PREFIX = "base_model.model."
"""PEFT's folders name weights from its own two wrappers on."""


@dataclass
class Adapter:
    """A LoRA adapter; everything else in the network is frozen.

    Attributes:
        r: Rank of the update of each projection.
        alpha: The update is scaled by alpha / r.
        dropout: Dropout rate of the adapter's inputs while training.
        targets: Names of the projections inside the blocks that are adapted; None takes the
            query and value projections of the model. Where these are one with the key's, as in
            GPT-2, the key is adapted with them.
        continued: Go on with the adapter that the source holds, which must have this form, on that
            adapter's own base. By default a new one starts on the source, an adapter in which is
            merged into the frozen weights: the same network, another subspace to move in.

    Raises:
        UserError: A value is out of range.
    """

    r: int = 16
    alpha: int = 64
    dropout: float = 0.1
    targets: list[str] | None = None
    continued: bool = False

    def __post_init__(self) -> None:
        option = "model.network.adapter"
        require_at_least(1, f"{option}.", r=self.r, alpha=self.alpha)
        if not 0 <= self.dropout < 1:
            raise UserError(f"{option}.dropout is {self.dropout}: give a rate from 0 to below 1")
        if self.targets is not None and not self.targets:
            raise UserError(
                f"{option}.targets is empty: name projections, or leave it out for the model's own"
            )


def add_adapter(model: PreTrainedModel, adapter: Adapter, seed: int) -> None:
    """Injects an adapter in place and freezes everything else.

    B starts at zero, so that the model computes what it did before.

    Args:
        model: A plain model.
        adapter: Rank, scale, dropout and targets.
        seed: What the weights of A depend on, and nothing else.

    Raises:
        UserError: If a target is no projection of the family's blocks.
    """
    from peft import inject_adapter_in_model

    config = _lora_config(model, adapter)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model, ADAPTER_NAME)


def adapter_of(model: PreTrainedModel) -> Adapter | None:
    """Returns the adapter inside a model, its targets by name; None where the model is plain."""
    if not hasattr(model, "peft_config"):
        return None
    config = injected_config(model)
    targets = sorted(config.target_modules or ())
    return Adapter(config.r, config.lora_alpha, config.lora_dropout, targets)


def merge_adapter(model: PreTrainedModel) -> PreTrainedModel:
    """Adds the adapter's updates to the weights and takes its layers out again.

    Weight tensors are replaced, not written to: a model that shares them stays as it was.

    Returns:
        The same model, plain, with every weight trainable.
    """
    if hasattr(model, "peft_config"):
        merge_layers(model)
        del model.peft_config
    return model.requires_grad_(True)


def merge_layers(model: PreTrainedModel) -> None:
    """Puts a plain layer in the place of each that has an update; the sum is taken in float32."""
    from peft.tuners.lora import LoraLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, LoraLayer):
            plain = layer.get_base_layer()
            weight = plain.get_parameter("weight").detach()
            small = weight.dtype.itemsize < torch.float32.itemsize
            # A parameter of its own: a head that is tied to an embedding does not get its update.
            plain.weight = nn.Parameter(weight.float() if small else weight)
            layer.merge(safe_merge=True)
            plain.weight.data = plain.weight.data.to(weight.dtype)
            model.set_submodule(name, plain)


def save_adapter(
    model: PreTrainedModel, weights: Mapping[str, Tensor], folder: Path, base: str | None
) -> None:
    """Writes a model's adapter alone, as ``peft.PeftModel.from_pretrained`` reads it.

    Args:
        model: The model with its adapter; its own weights may be sharded.
        weights: The whole weights by name.
        folder: Where to; created.
        base: Hub name or folder of the weights that the adapter was trained on, as PEFT looks
            them up; None where there are none to be loaded by name.
    """
    from peft import get_peft_model_state_dict

    adapted = get_peft_model_state_dict(
        model, state_dict=dict(weights), adapter_name=ADAPTER_NAME, save_embedding_layers=False
    )
    tensors = {PEFT_PREFIX + name: value.cpu().contiguous() for name, value in adapted.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    config = copy.copy(injected_config(model))
    config.base_model_name_or_path = base
    config.inference_mode = True
    config.save_pretrained(str(folder))


def injected_config(model: PreTrainedModel) -> "LoraConfig":
    """Returns the configuration that PEFT left on a model with an adapter."""
    from peft import LoraConfig

    config = model.peft_config[ADAPTER_NAME]
    if not isinstance(config, LoraConfig):
        raise TypeError(f"expected a LoRA adapter, found {type(config).__name__}")
    return config


def _lora_config(model: PreTrainedModel, adapter: Adapter) -> "LoraConfig":
    from peft import LoraConfig

    projections = {
        name: module
        for block in transformer_blocks(model)
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    }
    targets = adapter.targets or query_and_value(projections)
    for target in targets or [""]:
        if not any(f".{name}".endswith(f".{target}") for name in projections):
            wanted = f"no projection {target!r}" if target else "no query and value known by name"
            raise UserError(
                f"model.network.adapter.targets: the blocks of a {model.config.model_type} model "
                f"have {wanted}; they have {', '.join(projections)}"
            )
    return LoraConfig(
        r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=targets,
        # GPT-2 stores its projections as [in, out].
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in projections.values()),
        task_type="CAUSAL_LM",
    )


def query_and_value(projections: Collection[str]) -> list[str]:
    """Returns the names of the query and value projections among those of a block; none if unknown.

    >>> query_and_value(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.up_proj"])
    ['q_proj', 'v_proj']
    >>> query_and_value(["attention.query_key_value", "attention.dense"])
    ['query_key_value']
    """
    leaves = {name.rpartition(".")[2] for name in projections}
    return next((list(names) for names in _QUERY_AND_VALUE if leaves.issuperset(names)), [])
