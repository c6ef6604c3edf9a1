"""Weights that lie in safetensors files, read a few rows at a time."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

from datamodules.sources import Place, place_of
from kdmodules.models.adapters import Adapter, add_adapter
from kdmodules.models.families import FAMILIES, new_model


@dataclass(frozen=True)
class WeightFiles:
    """A model on disk.

    Attributes:
        config: Its configuration.
        places: File of each parameter, and the parameter's name there.
    """

    config: PreTrainedConfig
    places: Mapping[str, tuple[str, str]]

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Reads rows ``start`` to ``stop`` of a parameter, on the CPU, as they are stored."""
        file, own_name = self.places[name]
        with safe_open(file, framework="pt") as opened:
            # What is read is mapped: without a copy it would follow the file, whoever replaces it.
            return opened.get_slice(own_name)[start:stop].clone()


def skeleton(
    config: PreTrainedConfig, adapter: Adapter | None = None, dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """Builds a model without memory for its parameters, which are on the meta device.

    Buffers, such as rotary frequencies, are real: no file holds them.

    Args:
        config: Of a known family.
        adapter: Injected where there is one.
        dtype: The parameters' type.
    """
    with torch.device("cpu"), _parameters_on_meta():
        model = new_model(config, dtype)
        if adapter is not None:
            add_adapter(model, adapter, seed=0)
    return model


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    def moved(module: nn.Module, name: str, parameter: nn.Parameter | None) -> Any:
        # What is there already may be tied, and must stay one object.
        if parameter is None or parameter.is_meta:
            return None
        return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)

    handle = register_module_parameter_registration_hook(moved)
    try:
        yield
    finally:
        handle.remove()


def find_weight_files(
    source: str, dropout: Mapping[str, int | float | bool | str]
) -> WeightFiles | None:
    """Returns where a model's parameters lie; None where they cannot be read one by one.

    That is so for checkpoints, adapters, files of pickles, files whose names transformers would
    have to convert, a head beside the embedding that it is tied to, and weights that do not fit,
    which the whole way of loading refuses.

    Args:
        source: A hub name or a ``save_pretrained`` folder.
        dropout: Dropout rates, by their configuration names, that replace the stored ones.
    """
    place = place_of(source)
    alone = place.is_folder and not (Path(place.name) / CONFIG_NAME).is_file()
    if source.endswith(".ckpt") or alone:
        return None
    try:
        config = AutoConfig.from_pretrained(place.name, **place.options, **dropout)
        stored = _stored_names(place)
    except (OSError, ValueError, SafetensorError):
        # The whole way of loading fails as well, and says what is wrong.
        return None
    if config.model_type not in FAMILIES or not stored:
        return None
    model = skeleton(config)
    prefix = model.base_model_prefix + "."
    places = {}
    for name, _ in model.named_parameters():
        names = (known for known in (name, name.removeprefix(prefix)) if known in stored)
        stored_name = next(names, None)
        if stored_name is None:
            return None
        places[name] = (stored[stored_name], stored_name)
    files = WeightFiles(config, places)
    used = {name for _, name in places.values()}
    return files if _fits(files, model, stored.keys() - used) else None


def _stored_names(place: Place) -> dict[str, str]:
    """Returns the file of every tensor by its name; none where there are no safetensors."""
    options: dict[str, Any] = dict(place.options)
    options.pop("trust_remote_code")
    quiet = {"_raise_exceptions_for_missing_entries": False, **options}
    single = cached_file(place.name, SAFE_WEIGHTS_NAME, **quiet)
    if single is not None:
        with safe_open(single, framework="pt") as opened:
            return dict.fromkeys(opened.keys(), str(single))
    index = cached_file(place.name, SAFE_WEIGHTS_INDEX_NAME, **quiet)
    if index is None:
        return {}
    listed = json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"]
    files = {cached_file(place.name, file, **options) for file in sorted(set(listed.values()))}
    file_of: dict[str, str] = {}
    for file in map(str, files):
        # What lies there counts, not what the index says.
        with safe_open(file, framework="pt") as opened:
            file_of |= dict.fromkeys(opened.keys(), file)
    return file_of


def _fits(files: WeightFiles, model: PreTrainedModel, unused: Collection[str]) -> bool:
    """Tells whether the shapes are the network's, and nothing is left over that it could mean."""
    ignored = [*(model._keys_to_ignore_on_load_unexpected or ()), r"rotary_emb\.inv_freq"]
    if any(not any(re.search(pattern, name) for pattern in ignored) for name in unused):
        return False
    for name, parameter in model.named_parameters():
        file, own_name = files.places[name]
        with safe_open(file, framework="pt") as opened:
            if opened.get_slice(own_name).get_shape() != list(parameter.shape):
                return False
    return True
