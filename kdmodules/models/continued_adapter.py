"""An adapter that goes on from another run's instead of starting at nothing."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from common.errors import UserError
from kdmodules.models.adapter_files import adapter_folder_of, lora_config, stored_adapter
from kdmodules.models.adapters import PEFT_PREFIX, injected_config
from kdmodules.models.strict_loading import require_weights

if TYPE_CHECKING:
    from peft import LoraConfig

_SAME = ("r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "bias")


def adapter_folder(source: str | None) -> Path:
    """Returns the PEFT folder of a source: itself, or ``adapter/`` in what a run exported.

    Raises:
        UserError: If there is none.
    """
    for candidate in (source, str(Path(source) / "adapter")) if source else ():
        folder = adapter_folder_of(candidate)
        if folder is not None:
            return folder
    raise UserError(
        f"model.network.adapter.continued: model.network.source {source} holds no adapter "
        "to go on with; give a folder of PEFT's, or the export of a run that trained one"
    )


def continue_adapter(model: PreTrainedModel, folder: Path, allow_pickle: bool = False) -> None:
    """Gives the adapter of a model the weights of another one of the same form, in place.

    Args:
        model: With an adapter injected, on the base that the other was trained on.
        folder: PEFT's, of the other adapter.
        allow_pickle: Whether a pickled ``adapter_model.bin`` is read where there is no other.

    Raises:
        UserError: If rank, scale, targets or weights are not the same ones, or cannot be read.
    """
    _require_same_form(injected_config(model), folder)
    weights = {
        PEFT_PREFIX + name.replace(".default.", "."): parameter
        for name, parameter in model.named_parameters()
        if ".lora_" in name
    }
    stored = stored_adapter(folder, allow_pickle)
    require_weights(f"the adapter in {folder}", weights, stored)
    with torch.no_grad():
        for name, value in stored.items():
            weights[name].copy_(value)


def _require_same_form(wanted: "LoraConfig", folder: Path) -> None:
    config = lora_config(folder)
    pairs = {name: (getattr(wanted, name), getattr(config, name)) for name in _SAME}
    pairs["targets"] = (sorted(wanted.target_modules or ()), sorted(config.target_modules or ()))
    for name, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise UserError(
                f"model.network.adapter.continued: {name} is {theirs} in {folder} and {ours} in "
                "this run's model.network.adapter"
            )
