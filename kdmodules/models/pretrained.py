"""A model as transformers stores it: a folder, a hub name or a GGUF file, loaded strictly."""

import pickle
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import SAFE_WEIGHTS_NAME, logging

from common.errors import UserError, first_line
from datamodules.sources import Place, hub_is_there, place_of, require_gguf
from kdmodules.models.architectures import has_text_part, require_causal
from kdmodules.models.strict_loading import require_names, require_tied
from kdmodules.models.text_part import text_part

Dtype = Literal["auto", "float32", "bfloat16"]
"""Type of a model's weights; auto: as they are stored."""

DeviceMap = str | Mapping[str, str | int]
"""Which devices hold which modules, as accelerate takes it."""

_UNREADABLE = (
    *(OSError, ValueError, RuntimeError, ImportError, LookupError),
    # Configurations of wrong types and of sizes that make no network.
    *(TypeError, AttributeError, AssertionError, ArithmeticError),
    *(SafetensorError, pickle.UnpicklingError, struct.error),
)


def load_pretrained(
    source: str,
    dropout: Mapping[str, Any],
    allow_pickle: bool,
    dtype: Dtype,
    device_map: DeviceMap | None,
) -> PreTrainedModel:
    """Loads a model that holds all its weights; arguments and errors are those of `load_model`.

    Of a model that reads images too, its text part is what is loaded.
    """
    place = place_of(source)
    require_gguf(place)
    if place.looks_like_a_path and not place.is_folder:
        kind = "file" if source.endswith(".gguf") else "folder"
        raise UserError(
            f"model {kind} {source} does not exist: give a save_pretrained folder, a GGUF file or "
            "a hub name"
        )
    what = f"model {source!r}"
    local_only = not (place.is_folder or hub_is_there())
    with _one_line(what, allow_pickle):
        config = AutoConfig.from_pretrained(
            place.name, local_files_only=local_only, **place.options, **dropout
        )
    require_causal(what, config)
    method = quantisation_of(config)
    loader = AutoModelForImageTextToText if has_text_part(config) else AutoModelForCausalLM
    with _one_line(what, allow_pickle, method), _without_reports():
        loaded: Any = loader.from_pretrained(
            place.name,
            config=config,
            dtype="auto" if dtype == "auto" else getattr(torch, dtype),
            device_map=device_map,
            local_files_only=local_only,
            use_safetensors=None if allow_pickle else True,
            weights_only=True,
            # Reported with the missing ones, and then refused.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **place.options,
            **_dequantised(place),
        )
    model, report = loaded
    if getattr(model, "_hf_peft_config_loaded", False):
        raise UserError(
            f"{what} holds a whole model and an adapter: keep each in a folder of its own, and "
            "give the one that is meant"
        )
    require_names(
        what, report["missing_keys"], report["unexpected_keys"], report["mismatched_keys"]
    )
    require_tied(what, model, dict(model.named_parameters(remove_duplicate=False)))
    if any(parameter.is_meta for parameter in model.parameters()):
        raise UserError(
            f"{what} does not fit the devices of device_map {device_map!r}: some of its weights "
            "would stay on disk or in host memory; give more devices, or dtype bfloat16"
        )
    return text_part(model) if has_text_part(model.config) else model


def quantisation_of(config: PreTrainedConfig) -> str | None:
    """Returns the method by which a model's stored weights are quantised; None where they are not.

    GGUF is none of them: its weights are given back their precision when they are loaded.
    """
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return None
    options = stored if isinstance(stored, dict) else stored.to_dict()
    return str(options.get("quant_method", "an unknown method"))


def _dequantised(place: Place) -> dict[str, Any]:
    file = place.options.get("gguf_file")
    if file is None:
        return {}
    from transformers import GgufConfig

    if not dist.is_initialized() or dist.get_rank() == 0:
        sys.stderr.write(
            f"warning: {file} is a GGUF file: its weights were quantised, and are loaded "
            "dequantised, which takes the room of whole weights and does not give back what was "
            "rounded away\n"
        )
    return {"quantization_config": GgufConfig(dequantize=True)}


@contextmanager
def _one_line(what: str, allow_pickle: bool, quantised: str | None = None) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        reason = first_line(error)
        hint = ""
        if not allow_pickle and SAFE_WEIGHTS_NAME in reason:
            hint = "; allow_pickle: true reads pickled weights, if that is all there is"
        if quantised:
            hint = (
                f"; its weights are quantised ({quantised}): install what that takes, or give the "
                "same weights unquantised (of an adapter's base, as adapter_base)"
            )
        raise UserError(f"{what} cannot be loaded: {reason}{hint}") from error


@contextmanager
def _without_reports() -> Iterator[None]:
    """Leaves out the library's tables of weights that do not fit: they are refused in one line."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
