"""PEFT's folders with a LoRA adapter alone, on disk or on the hub: found, read, and merged."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
    cached_file,
)

from common.errors import UserError, first_line
from datamodules.sources import Place, hub_is_there, place_of
from datamodules.tokenizer import TOKENIZER_FILES
from kdmodules.models.adapters import (
    ADAPTER_NAME,
    PEFT_PREFIX,
    WEIGHTS_FILE,
    merge_adapter,
    merge_layers,
)
from kdmodules.models.strict_loading import embedding_paths, require_weights

if TYPE_CHECKING:
    from peft import LoraConfig

_CONFIG_FILE = "adapter_config.json"
_MODEL_FILES = (
    *(SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME),
    *(WEIGHTS_NAME, WEIGHTS_INDEX_NAME),
)


def adapter_folder_of(source: str) -> Path | None:
    """Returns the folder of a source that is an adapter alone; None of every other source.

    Args:
        source: A folder, or a hub name: what lies there is then fetched into the hub's cache.
    """
    if source.endswith((".ckpt", ".gguf")):
        return None
    place = place_of(source)
    # A model in the hub's cache is told from an adapter without a network.
    if any(_file(place, name, cached_only=True) is not None for name in _MODEL_FILES):
        return None
    config = _file(place, _CONFIG_FILE)
    if config is None or any(_file(place, name) is not None for name in _MODEL_FILES):
        return None
    if _file(place, WEIGHTS_FILE) is None:
        _file(place, "adapter_model.bin")
    return config.parent


def holds_adapter(source: str) -> bool:
    """Tells whether a folder or hub name holds an adapter, alone or beside a model."""
    return _file(place_of(source), _CONFIG_FILE) is not None


def has_tokenizer(source: str) -> bool:
    """Tells whether a folder or hub name holds a tokenizer."""
    place = place_of(source)
    return any(_file(place, name) is not None for name in TOKENIZER_FILES)


def _file(place: Place, name: str, cached_only: bool = False) -> Path | None:
    """Returns a file of a source; None where it has none, or cannot be had.

    Args:
        place: Folder or hub name.
        name: The file's.
        cached_only: Whether the hub itself is not asked.
    """
    if place.is_folder:
        file = Path(place.name) / name
        return file if file.is_file() else None
    if place.looks_like_a_path:
        return None
    options: dict[str, Any] = {k: v for k, v in place.options.items() if k != "trust_remote_code"}
    try:
        cached = cached_file(
            place.name,
            name,
            local_files_only=cached_only or not hub_is_there(),
            _raise_exceptions_for_missing_entries=False,
            **options,
        )
    except (OSError, ValueError):
        # The way that loads a whole model fails as well, and says what is wrong.
        return None
    return None if cached is None else Path(cached)


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


def named_base(folder: Path) -> str:
    """Returns the hub name or folder of the model that an adapter's folder says it belongs to.

    Raises:
        UserError: If the folder holds no LoRA adapter or names no base.
    """
    config = lora_config(folder)
    if not config.base_model_name_or_path:
        raise UserError(
            f"{folder}/{_CONFIG_FILE} names no base: give it as adapter_base, or give the folder "
            "of the merged model"
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
    if not (allow_pickle or (folder / WEIGHTS_FILE).is_file()):
        raise UserError(
            f"{what}: there is no {WEIGHTS_FILE}; allow_pickle: true reads pickled weights, if "
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

    Embeddings that were resized or trained with the adapter take the place of the base's.

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
    _resize_as_stored(what, base, stored)
    try:
        wrapped = PeftModel(base, PeftConfig.from_pretrained(str(folder)), ADAPTER_NAME)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{what} does not fit its base: {first_line(error)}") from error
    mine = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    # Embeddings may lie there too, under the names that they have in the model.
    allowed = {**wrapped.state_dict(), **_twins(stored), **mine}
    require_weights(what, mine, stored, allowed)
    set_peft_model_state_dict(wrapped, stored, ADAPTER_NAME)
    merge_layers(base)
    # PEFT works on the base itself, and alone knows the modules that were trained whole.
    wrapped.merge_and_unload(safe_merge=True)
    merged = merge_adapter(base)
    _settle_tie(merged)
    return merged


def _twins(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the second copies of modules that were both resized and trained whole."""
    first = {name: name.replace(".modules_to_save.", ".") for name in stored}
    return {
        name: stored[name]
        for name, twin in first.items()
        if twin != name and twin in stored and stored[twin].equal(stored[name])
    }


def _resize_as_stored(what: str, base: PreTrainedModel, stored: Mapping[str, Tensor]) -> None:
    """Gives the embeddings of a base as many rows as those that are stored with an adapter."""
    rows: dict[str, int] = {}
    paths = embedding_paths(base)
    for path in paths:
        for name in (f"{PEFT_PREFIX}{path}.weight", f"{PEFT_PREFIX}{path}.base_layer.weight"):
            if name in stored:
                rows[path] = len(stored[name])
    had = {path: len(base.get_parameter(f"{path}.weight")) for path in paths}
    if all(had[path] == number for path, number in rows.items()):
        return
    tied = base.config.tie_word_embeddings
    if len(set(rows.values())) > 1 or not (tied or rows.keys() == had.keys()):
        found = ", ".join(f"{path} with {number} rows" for path, number in rows.items())
        raise UserError(
            f"{what} does not fit its base: it holds {found} where the base has "
            f"{next(iter(had.values()))}, and embedding and head must be resized alike; save it "
            "with save_embedding_layers=True"
        )
    base.resize_token_embeddings(next(iter(rows.values())), mean_resizing=False)


def _settle_tie(model: PreTrainedModel) -> None:
    """Makes the configuration true where a head and the embedding it was tied to were trained."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if not model.config.tie_word_embeddings or head.weight is embedding.weight:
        return
    if head.weight.equal(embedding.weight):
        model.tie_weights()
    else:
        model.config.tie_word_embeddings = False
