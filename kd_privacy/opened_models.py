"""Models of an audit from Python or the command: handed over or named, ready to be scored."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from audits.scoring.references import ReferenceModel
from common.errors import UserError, first_line
from datamodules.batches import RecordEncoder
from datamodules.tokenizer import load_tokenizer
from kdmodules.models.activations import activations_kept
from kdmodules.models.anatomy import context_window
from kdmodules.models.blueprint import realise, source_blueprint
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.modes import evaluation_mode
from kdmodules.models.network import source_tokenizer
from kdmodules.models.pretrained import DeviceMap, Dtype

Model = PreTrainedModel | str | Path
"""A transformers model, or what `--model.source` takes: a folder or a hub name."""

Tokenizer = PreTrainedTokenizerBase | str | Path
"""A tokenizer, or where it is."""


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How a model that is named by its source is loaded, as `kd_privacy.audit` says."""

    dtype: Dtype = "float32"
    adapter_base: str | None = None
    device: str | torch.device | None = None
    device_map: DeviceMap | None = None


def require_dtype(dtype: str) -> None:
    """Refuses a type of weights that models cannot be read in.

    Raises:
        UserError: Naming it.
    """
    if dtype not in get_args(Dtype):
        raise UserError(f"dtype is {dtype!r}: choose {', '.join(get_args(Dtype))}")


def require_device(device: str | torch.device) -> None:
    """Refuses a device that this machine does not have.

    Raises:
        UserError: Naming it.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device is {device}: {first_line(error)}") from error


def name_of(model: object, otherwise: str) -> str:
    """Returns what a model or a record set is called: where it is, or a word for a given one."""
    return str(model) if isinstance(model, str | Path) else otherwise


def tokenizer_of(
    model: Model, tokenizer: Tokenizer | None, adapter_base: str | None = None
) -> PreTrainedTokenizerBase:
    """Returns a tokenizer that was given, is named, or lies beside a model's files.

    Raises:
        UserError: There is none.
    """
    if isinstance(tokenizer, PreTrainedTokenizerBase):
        return tokenizer
    if tokenizer is None and isinstance(model, PreTrainedModel):
        raise UserError("tokenizer is None: give the tokenizer of the audited model")
    if tokenizer is None:
        return source_tokenizer(str(model), adapter_base)
    return load_tokenizer(str(tokenizer))


@contextmanager
def opened(model: Model, encoder: RecordEncoder, loading: Loading) -> Iterator[CausalLM]:
    """Yields a model ready to be scored; one that was handed over is then put back as it was.

    Args:
        model: The model, or where it is.
        encoder: Text to its tokens.
        loading: Of a model that is named.

    Raises:
        UserError: If it is no causal language model, cannot be loaded, or its window is too short.
    """
    if isinstance(model, PreTrainedModel):
        with activations_kept(model), evaluation_mode(model):
            yield _fitting(CausalLM(model, len(encoder.tokenizer)), encoder)
        return
    if not isinstance(model, str | Path):
        raise UserError(
            f"model is a {type(model).__name__}: give a transformers model, a folder or a hub name"
        )
    blueprint = source_blueprint(
        str(model),
        dtype=loading.dtype,
        adapter_base=loading.adapter_base,
        device_map=loading.device_map,
    )
    lm = realise(blueprint, len(encoder.tokenizer)).eval()
    if loading.device_map is None:
        lm.to(loading.device or torch.accelerator.current_accelerator() or "cpu")
    yield _fitting(lm, encoder)


@contextmanager
def opened_reference(
    model: Model, encoder: RecordEncoder, loading: Loading
) -> Iterator[ReferenceModel]:
    """Yields a reference model; one that was handed over reads the audited model's tokens.

    Args:
        model: The model, or where it is.
        encoder: Text to the audited model's tokens.
        loading: Of a model that is named; its device is the audited model's.
    """
    if isinstance(model, str | Path):
        reference = ReferenceModel.of_source(
            str(model), encoder, dtype=loading.dtype, adapter_base=loading.adapter_base
        )
        reference.lm.requires_grad_(False).eval().to(loading.device)
        yield reference
        return
    with opened(model, encoder, Loading()) as lm:
        yield ReferenceModel(lm, encoder)


def _fitting(lm: CausalLM, encoder: RecordEncoder) -> CausalLM:
    window = context_window(lm.model)
    if window is not None and window < encoder.max_tokens:
        raise UserError(
            f"max_tokens is {encoder.max_tokens} but the model's window is {window} tokens: lower "
            "max_tokens"
        )
    encoder.limit_rows(lm.vocabulary_size)
    return lm
