"""Building a causal language model: from scratch, a hub name, a folder, or a checkpoint of ours."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from datamodules.errors import UserError
from datamodules.tokenizer import load_tokenizer, vocabulary_hash
from kdmodules.families import FAMILIES, family_of

METADATA_KEY = "kd_privacy"
"""Key of a Lightning checkpoint under which :func:`checkpoint_metadata` is stored."""

WEIGHTS_PREFIX = "lm.model."
"""Prefix of the network's weights in a Lightning checkpoint's state dict."""

_NO_CHANGE: Mapping[str, int | float | bool | str] = {}


@dataclass
class Network:
    """Which model a stage trains or audits.

    Attributes:
        family: gpt2, opt or llama.
        source: Where the weights come from: a hub name, a ``save_pretrained`` folder or a
            ``.ckpt`` of ours. Without one the network starts from scratch with seeded random
            weights.
        config: Hyper-parameters by the names of the family's Hugging Face configuration. They
            define a network that starts from scratch and must agree with what ``source`` loads,
            except dropout rates, which replace the loaded ones.
    """

    family: Literal["gpt2", "opt", "llama"] = "gpt2"
    source: str | None = None
    config: dict[str, int | float | bool | str] = field(default_factory=dict)


def build_network(
    network: Network, tokenizer: PreTrainedTokenizerBase, seed: int
) -> PreTrainedModel:
    """Builds the model of a stage in float32 and in training mode.

    Args:
        network: What to build.
        tokenizer: Gives a scratch network its vocabulary; must be the vocabulary of a loaded one.
        seed: Seed of the weights of a network that starts from scratch.

    Raises:
        UserError: If the source cannot be loaded, is of another family or size than said, or has
            another vocabulary than the tokenizer.
    """
    if network.source is None:
        return _build_from_scratch(network, tokenizer, seed)
    require_same_vocabulary(network.source, tokenizer)
    dropout = {name: value for name, value in network.config.items() if "drop" in name}
    model = load_model(network.source, dropout)
    _require_agreement(network, model)
    # A loaded model comes in evaluation mode, in which its dropout would stay off in training.
    return model.train()


def _build_from_scratch(
    network: Network, tokenizer: PreTrainedTokenizerBase, seed: int
) -> PreTrainedModel:
    family = FAMILIES[network.family]
    if not network.config:
        raise UserError(
            "model.network has neither source nor config: give a hub name or folder as "
            "model.network.source, or a family fragment such as configs/families/gpt2-tiny.yaml"
        )
    known = family.config_class().to_dict()
    for name in network.config:
        if name not in known:
            raise UserError(
                f"model.network.config.{name} is not an option of {family.config_class.__name__}"
            )
    config = family.config_class.from_dict(
        {
            **network.config,
            "vocab_size": len(tokenizer),
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            # An embedding with a padding row gets no gradient there, and the padding id may be eos.
            "pad_token_id": None,
        }
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return family.model_class._from_config(config, attn_implementation="sdpa")


def load_model(
    source: str, dropout: Mapping[str, int | float | bool | str] = _NO_CHANGE
) -> PreTrainedModel:
    """Loads a causal language model in float32.

    Args:
        source: A hub name, a ``save_pretrained`` folder, or a Lightning checkpoint that a run of
            this project wrote.
        dropout: Dropout rates, by their configuration names, that replace the stored ones.

    Raises:
        UserError: If there is nothing to load there, or it belongs to no known family.
    """
    if source.endswith(".ckpt"):
        model = _load_checkpoint(source, dropout)
    else:
        model = _load_pretrained(source, dropout)
    family_of(model)
    return model


def _load_pretrained(source: str, dropout: Mapping[str, Any]) -> PreTrainedModel:
    path = Path(source).expanduser()
    looks_local = source.startswith((".", "/", "~")) or source.count("/") > 1
    if looks_local and not path.is_dir():
        raise UserError(
            f"model folder {source} does not exist: give a save_pretrained folder or a hub name"
        )
    name = str(path) if path.is_dir() else source
    try:
        return AutoModelForCausalLM.from_pretrained(
            name,
            config=AutoConfig.from_pretrained(name, **dropout),
            dtype=torch.float32,
            attn_implementation="sdpa",
        )
    except (OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise UserError(f"model {source!r} cannot be loaded: {first_line}") from error


def _load_checkpoint(path: str, dropout: Mapping[str, Any]) -> PreTrainedModel:
    checkpoint = read_checkpoint(path)
    metadata = checkpoint[METADATA_KEY]
    config = AutoConfig.for_model(**{**metadata["config"], **dropout})
    model_class = FAMILIES[metadata["family"]].model_class
    model = model_class._from_config(config, attn_implementation="sdpa")
    weights = {
        name.removeprefix(WEIGHTS_PREFIX): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith(WEIGHTS_PREFIX)
    }
    model.load_state_dict(weights)
    return model


def read_checkpoint(path: str) -> dict[str, Any]:
    """Reads a Lightning checkpoint that a run of this project wrote.

    Raises:
        UserError: If the file is missing or is no checkpoint of ours.
    """
    if not Path(path).is_file():
        raise UserError(f"checkpoint {path} does not exist")
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if METADATA_KEY not in checkpoint:
        raise UserError(
            f"checkpoint {path} was not written by kd-privacy: export it to a folder first"
        )
    return checkpoint


def checkpoint_metadata(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """Returns what :func:`load_model` needs to rebuild the network from a checkpoint."""
    return {
        "family": family_of(model).name,
        "config": model.config.to_dict(),
        "vocabulary_size": len(tokenizer),
        "vocabulary_hash": vocabulary_hash(tokenizer),
    }


def require_same_vocabulary(source: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuses a model whose vocabulary is not the tokenizer's.

    Compared by the hash of the token-to-id map: OpenLLaMA and Llama-2 both have 32,000 tokens, and
    they are not the same ones.

    Args:
        source: The model's hub name, folder or checkpoint; a folder must hold its tokenizer.
        tokenizer: The tokenizer of this run's data.

    Raises:
        UserError: Naming both vocabularies and their sizes, if they differ.
    """
    if source.endswith(".ckpt"):
        metadata = read_checkpoint(source)[METADATA_KEY]
        size, theirs = metadata["vocabulary_size"], metadata["vocabulary_hash"]
    else:
        other = load_tokenizer(source)
        size, theirs = len(other), vocabulary_hash(other)
    ours = vocabulary_hash(tokenizer)
    if theirs != ours:
        raise UserError(
            f"the vocabulary of {source} ({size} tokens, {theirs[:8]}) is not the vocabulary of "
            f"this run's tokenizer {tokenizer.name_or_path or 'trained on the public split'} "
            f"({len(tokenizer)} tokens, {ours[:8]}): set data.tokenizer to the one that "
            f"{source} was trained with"
        )


def _require_agreement(network: Network, model: PreTrainedModel) -> None:
    found = family_of(model).name
    if found != network.family:
        raise UserError(
            f"model.network.source {network.source} is a {found} model, model.network.family says "
            f"{network.family}"
        )
    for name, expected in network.config.items():
        actual = getattr(model.config, name, None)
        if actual != expected and "drop" not in name:
            raise UserError(
                f"model.network.source {network.source} has {name}={actual}, "
                f"model.network.config.{name} says {expected}"
            )
