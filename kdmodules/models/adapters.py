"""Low-rank adapters (LoRA) in a model of any family: injected, merged, and kept in PEFT's format.

LoRA (Hu et al. 2022, arXiv 2106.09685, equation 3) trains ``W + (alpha / r) B A`` with W frozen.
PEFT holds the layers; the model keeps its Hugging Face class, so its parts are where they were.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from common.errors import UserError, first_line
from common.options import require_at_least
from kdmodules.models.anatomy import transformer_blocks
from kdmodules.models.families import family_of
from kdmodules.models.strict_loading import require_weights

if TYPE_CHECKING:
    from peft import LoraConfig

_NAME = "default"
_CONFIG_FILE = "adapter_config.json"
_WEIGHTS_FILE = "adapter_model.safetensors"
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
            family's query and value projections. GPT-2 has query, key and value in one projection,
            so there the key is adapted with them.
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
                f"{option}.targets is empty: name projections, or leave it out for the family's own"
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
        inject_adapter_in_model(config, model, _NAME)


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
        from peft.tuners.tuners_utils import BaseTunerLayer

        for name, layer in list(model.named_modules()):
            if isinstance(layer, BaseTunerLayer):
                layer.merge(safe_merge=True)
                model.set_submodule(name, layer.get_base_layer())
        del model.peft_config
    return model.requires_grad_(True)


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
        model, state_dict=dict(weights), adapter_name=_NAME, save_embedding_layers=False
    )
    tensors = {PEFT_PREFIX + name: value.cpu().contiguous() for name, value in adapted.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / _WEIGHTS_FILE, metadata={"format": "pt"})
    config = copy.copy(injected_config(model))
    config.base_model_name_or_path = base
    config.inference_mode = True
    config.save_pretrained(str(folder))


def is_adapter_folder(folder: Path) -> bool:
    """Tells whether a folder holds an adapter and no model of its own."""
    return (folder / _CONFIG_FILE).is_file() and not (folder / "config.json").is_file()


def lora_config(folder: Path) -> "LoraConfig":
    """Returns the configuration in an adapter's folder.

    Raises:
        UserError: If the folder holds no LoRA adapter.
    """
    from peft import LoraConfig, PeftConfig

    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"the adapter in {folder} cannot be read: {error}") from error
    if not isinstance(config, LoraConfig):
        raise UserError(
            f"{folder} holds an adapter of type {config.peft_type}: only LoRA can be used here"
        )
    return config


def adapter_base(folder: Path) -> str:
    """Returns the hub name or folder of the model that an adapter's folder says it belongs to.

    Raises:
        UserError: If the folder holds no LoRA adapter or names no base.
    """
    config = lora_config(folder)
    if not config.base_model_name_or_path:
        raise UserError(
            f"{folder}/{_CONFIG_FILE} names no base: set base_model_name_or_path, or give the "
            "folder of the merged model"
        )
    return str(config.base_model_name_or_path)


def stored_adapter(folder: Path, allow_pickle: bool = False) -> dict[str, Tensor]:
    """Returns the weights of an adapter by PEFT's names.

    Args:
        folder: PEFT's.
        allow_pickle: Whether a pickled ``adapter_model.bin`` is read where there is no other.

    Raises:
        UserError: If there are none that may be read.
    """
    from peft import load_peft_weights

    what = f"the adapter in {folder} cannot be read"
    if not (allow_pickle or (folder / _WEIGHTS_FILE).is_file()):
        raise UserError(
            f"{what}: there is no {_WEIGHTS_FILE}; allow_pickle: true reads pickled weights, if "
            "that is all there is"
        )
    try:
        return load_peft_weights(str(folder), device="cpu")
    except (OSError, ValueError, RuntimeError, SafetensorError, UnpicklingError) as error:
        raise UserError(f"{what}: {first_line(error)}") from error


def merge_adapter_folder(
    base: PreTrainedModel, folder: Path, allow_pickle: bool = False
) -> PreTrainedModel:
    """Returns a base model with the adapter of a PEFT folder merged in.

    Args:
        base: The base model.
        folder: PEFT's folder.
        allow_pickle: Whether a pickled ``adapter_model.bin`` is read where there is no other.

    Raises:
        UserError: If the adapter does not fit the base, or its weights are not exactly those that
            its configuration names.
    """
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

    what = f"the adapter in {folder}"
    stored = stored_adapter(folder, allow_pickle)
    try:
        wrapped = PeftModel(base, PeftConfig.from_pretrained(str(folder)), _NAME)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{what} does not fit its base: {first_line(error)}") from error
    mine = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    # Embeddings may lie there too, under the names that they have in the model.
    require_weights(what, mine, stored, allowed={**wrapped.state_dict(), **mine})
    set_peft_model_state_dict(wrapped, stored, _NAME)
    # PEFT works on the base itself, and alone knows the modules that were trained whole.
    wrapped.merge_and_unload(safe_merge=True)
    return merge_adapter(base)


def injected_config(model: PreTrainedModel) -> "LoraConfig":
    """Returns the configuration that PEFT left on a model with an adapter."""
    from peft import LoraConfig

    config = model.peft_config[_NAME]
    if not isinstance(config, LoraConfig):
        raise TypeError(f"expected a LoRA adapter, found {type(config).__name__}")
    return config


def _lora_config(model: PreTrainedModel, adapter: Adapter) -> "LoraConfig":
    from peft import LoraConfig

    projections = {
        name: module
        for name, module in transformer_blocks(model)[0].named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    }
    targets = adapter.targets or list(family_of(model).adapter_targets)
    for target in targets:
        if not any(f".{name}".endswith(f".{target}") for name in projections):
            raise UserError(
                f"model.network.adapter.targets: the blocks of a {family_of(model).name} model "
                f"have no projection {target!r}; they have {', '.join(projections)}"
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
