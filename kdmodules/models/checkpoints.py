"""Checkpoints of this project: what they hold beside the weights, and what each of them fits."""

import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from common.errors import UserError, first_line
from datamodules.tokenizer import vocabulary_hash
from kdmodules.models.adapters import Adapter, adapter_of, add_adapter, merge_adapter
from kdmodules.models.architectures import new_model
from kdmodules.models.pretrained import Dtype
from kdmodules.models.strict_loading import require_tied, require_weights

METADATA_KEY = "kd_privacy"
"""Key of a Lightning checkpoint under which :func:`checkpoint_metadata` is stored."""

WEIGHTS_PREFIX = "lm.model."
"""Prefix of the network's weights in a Lightning checkpoint's state dict."""

_UNREADABLE = (
    *(OSError, RuntimeError, EOFError, ValueError),
    *(zipfile.BadZipFile, pickle.UnpicklingError),
)
_NOT_OF_THE_NETWORK = {"_name_or_path", "architectures", "dtype", "transformers_version"}


def load_checkpoint(
    path: str, dropout: Mapping[str, Any], dtype: Dtype = "float32"
) -> PreTrainedModel:
    """Rebuilds the network of a checkpoint, plain.

    Args:
        path: A Lightning checkpoint that a run of this project wrote.
        dropout: Dropout rates, by their configuration names, that replace the stored ones.
        dtype: Type of the weights; auto leaves them as they are stored.

    Raises:
        UserError: If it cannot be read, or its weights are not exactly those of its network.
    """
    checkpoint = read_checkpoint(path)
    metadata = checkpoint[METADATA_KEY]
    config = AutoConfig.for_model(**{**metadata["config"], **dropout})
    weights = {
        name.removeprefix(WEIGHTS_PREFIX): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith(WEIGHTS_PREFIX)
    }
    stored = next(value.dtype for value in weights.values() if value.is_floating_point())
    model = new_model(config, stored if dtype == "auto" else getattr(torch, dtype))
    adapted = metadata.get("adapter") is not None
    if adapted:
        add_adapter(model, Adapter(**metadata["adapter"]), seed=0)
    require_weights(f"checkpoint {path}", model.state_dict(), weights)
    require_tied(f"checkpoint {path}", model, weights)
    model.load_state_dict(weights)
    return merge_adapter(model) if adapted else model


def read_checkpoint(path: str) -> dict[str, Any]:
    """Opens a Lightning checkpoint that a run of this project wrote.

    Its tensors are mapped, and read where they are used; that they are those that were written is
    checked before.

    Raises:
        UserError: If the file is missing, cannot be read, or is no checkpoint of ours.
    """
    if not Path(path).is_file():
        raise UserError(f"checkpoint {path} does not exist")
    try:
        with zipfile.ZipFile(path) as content:
            altered = content.testzip()
        if altered is not None:
            raise OSError(f"{altered} in it is not what was written")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except _UNREADABLE as error:
        raise UserError(f"checkpoint {path} cannot be read: {first_line(error)}") from error
    if not (isinstance(checkpoint, dict) and {METADATA_KEY, "state_dict"} <= checkpoint.keys()):
        raise UserError(
            f"checkpoint {path} was not written by kd-privacy: export it to a folder first"
        )
    return checkpoint


def checkpoint_metadata(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """Returns what :func:`load_checkpoint` needs to rebuild the network from a checkpoint."""
    adapter = adapter_of(model)
    return {
        "family": model.config.model_type,
        "config": model.config.to_dict(),
        "adapter": None if adapter is None else asdict(adapter),
        "vocabulary_size": len(tokenizer),
        "vocabulary_hash": vocabulary_hash(tokenizer),
    }


def require_checkpoint_fits(
    checkpoint: Mapping[str, Any],
    state: Callable[[], Mapping[str, Tensor]],
    metadata: Mapping[str, Any],
) -> None:
    """Refuses a checkpoint of another network than the one that is to go on from it.

    Names and shapes do not tell: a network with other heads, or whose adapter is scaled by another
    alpha, has the same ones.

    Args:
        checkpoint: What Lightning has read; some strategies have loaded its weights by then, as
            strictly.
        state: Returns the state of the module that it is to be loaded into.
        metadata: What :func:`checkpoint_metadata` says of that module.

    Raises:
        UserError: If it is none of ours, its weights are not exactly those of the module, or its
            vocabulary, a figure of its configuration or its adapter's scale is another. Dropout
            rates may change.
    """
    theirs = checkpoint.get(METADATA_KEY)
    if theirs is None:
        raise UserError("the checkpoint of --ckpt_path was not written by kd-privacy")
    if "state_dict" in checkpoint:
        require_weights("the checkpoint of --ckpt_path", state(), checkpoint["state_dict"])
    if theirs["vocabulary_hash"] != metadata["vocabulary_hash"]:
        raise UserError(
            "the checkpoint of --ckpt_path was trained with another vocabulary "
            f"({theirs['vocabulary_size']} tokens, {theirs['vocabulary_hash'][:8]}) than this "
            f"run's ({metadata['vocabulary_size']} tokens, {metadata['vocabulary_hash'][:8]})"
        )
    before, now = (
        {**side["config"], "adapter's alpha": (side.get("adapter") or {}).get("alpha")}
        for side in (theirs, metadata)
    )
    for name in sorted(before.keys() & now.keys() - _NOT_OF_THE_NETWORK):
        if "drop" not in name and before[name] != now[name]:
            raise UserError(
                f"the checkpoint of --ckpt_path is of another network: its {name} is "
                f"{before[name]!r}, this run's is {now[name]!r}"
            )
