"""Weights that lie in safetensors files, read a few rows at a time."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

from common.errors import UserError
from datamodules.sources import Place, place_of
from kdmodules.models.adapter_files import holds_adapter
from kdmodules.models.adapters import Adapter, add_adapter
from kdmodules.models.architectures import has_text_part, new_model, require_causal
from kdmodules.models.pretrained import Dtype, quantisation_of


@dataclass(frozen=True)
class WeightFiles:
    """A model on disk.

    Attributes:
        config: Its configuration.
        places: File of each parameter, and the parameter's name there.
        dtype: Type that the parameters are to have.
    """

    config: PreTrainedConfig
    places: Mapping[str, tuple[str, str]]
    dtype: torch.dtype = torch.float32

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
        config: Of a causal language model.
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
    source: str, dropout: Mapping[str, int | float | bool | str], dtype: Dtype = "float32"
) -> WeightFiles | None:
    """Returns where a model's parameters lie; None where they cannot be read one by one.

    That is so for checkpoints, adapters, GGUF files, files of pickles, quantised weights, models
    that read images too, files whose names or tensors transformers would have to convert, a head
    beside the embedding that it is tied to, and weights that do not fit, which the whole way of
    loading refuses.

    Args:
        source: A hub name or a ``save_pretrained`` folder.
        dropout: Dropout rates, by their configuration names, that replace the stored ones.
        dtype: Type that the parameters are to have; auto: that of the configuration, or of the
            first of them.
    """
    place = place_of(source)
    alone = place.is_folder and not (Path(place.name) / CONFIG_NAME).is_file()
    if source.endswith((".ckpt", ".gguf")) or alone or holds_adapter(source):
        return None
    try:
        config = AutoConfig.from_pretrained(place.name, **place.options, **dropout)
        require_causal(source, config)
        stored = _stored_names(place)
    except (OSError, ValueError, SafetensorError, UserError):
        # The whole way of loading fails as well, and says what is wrong.
        return None
    if has_text_part(config) or quantisation_of(config) is not None or not stored:
        return None
    own_dtype = config.dtype
    model = skeleton(config)
    if get_model_conversion_mapping(model, add_legacy=False):
        return None
    places = _places(model, stored)
    used = {name for _, name in places.values()}
    if places.keys() < dict(model.named_parameters()).keys():
        return None
    files = WeightFiles(config, places)
    if not _fits(files, model, stored.keys() - used):
        return None
    if dtype != "auto":
        return replace(files, dtype=getattr(torch, dtype))
    return replace(files, dtype=own_dtype or files.rows(next(iter(places)), 0, 1).dtype)


def _places(model: PreTrainedModel, stored: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Returns file and stored name of every parameter that is stored."""
    prefix = model.base_model_prefix + "."
    places = {}
    for name, _ in model.named_parameters():
        for known in (name, name.removeprefix(prefix)):
            if known in stored:
                places[name] = (stored[known], known)
                break
    return places


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
