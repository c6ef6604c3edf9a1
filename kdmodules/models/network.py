"""Building a causal language model: from scratch, a hub name, a folder, or a checkpoint of ours."""

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import SAFE_WEIGHTS_NAME, logging

from common.errors import UserError, first_line
from common.keys import key
from datamodules.sources import place_of
from datamodules.tokenizer import load_tokenizer, vocabulary_hash
from kdmodules.models.adapters import (
    Adapter,
    adapter_base,
    add_adapter,
    is_adapter_folder,
    merge_adapter_folder,
)
from kdmodules.models.checkpoints import METADATA_KEY, load_checkpoint, read_checkpoint
from kdmodules.models.continued_adapter import adapter_folder, continue_adapter
from kdmodules.models.depth_pruning import prune_depth
from kdmodules.models.families import FAMILIES, family_of, new_model
from kdmodules.models.strict_loading import require_names, require_tied

_NO_CHANGE: Mapping[str, int | float | bool | str] = {}


@dataclass
class Network:
    """Which model a stage trains or audits.

    Attributes:
        family: gpt2, opt or llama.
        source: Where the weights come from: a hub name, also with a revision and a subfolder
            (``owner/name@revision:subfolder``), a ``save_pretrained`` folder, a folder that holds a
            LoRA adapter alone, or a ``.ckpt`` of ours. Without one the network starts from scratch
            with seeded random weights.
        config: Hyper-parameters by the names of the family's Hugging Face configuration. They
            define a network that starts from scratch and must agree with what ``source`` loads
            (the depth with what is left of it), except dropout rates, which replace the loaded
            ones.
        depth_stride: Keep every n-th block of ``source``, starting with its first.
        adapter: Train this adapter and freeze everything else; None trains every weight.
        activation_checkpointing: Keep only the inputs of each block and compute the rest of its
            activations again in the backward pass.
        compiled: Train with blocks that ``torch.compile`` has fused; what only reads the model runs
            them as they are.
        allow_pickle: Read a ``source`` that has no safetensors from its pickled weights; nothing
            but tensors is taken from them.
    """

    family: Literal["gpt2", "opt", "llama"] = "gpt2"
    source: str | None = None
    config: dict[str, int | float | bool | str] = field(default_factory=dict)
    depth_stride: int = 1
    adapter: Adapter | None = None
    activation_checkpointing: bool = False
    compiled: bool = False
    allow_pickle: bool = False


def build_network(
    network: Network, tokenizer: PreTrainedTokenizerBase, seed: int
) -> PreTrainedModel:
    """Builds the model of a stage in float32 and in training mode.

    Args:
        network: What to build.
        tokenizer: Gives a scratch network its vocabulary; must be the vocabulary of a loaded one.
        seed: Seed of the weights of a network that starts from scratch, and of an adapter's.

    Raises:
        UserError: If the source cannot be loaded, is of another family or size than said, or has
            another vocabulary than the tokenizer; if there are no blocks to keep every n-th of; if
            the adapter's targets are not there, or the source holds none to go on with.
    """
    continued = network.adapter is not None and network.adapter.continued
    going_on = adapter_folder(network.source) if continued else None
    if network.source is None:
        model = _build_from_scratch(network, tokenizer, seed)
    else:
        require_same_vocabulary(network.source, tokenizer)
        source = adapter_base(going_on) if going_on else network.source
        loaded = load_model(source, dropout_of(network), network.allow_pickle)
        model = prune_depth(loaded, network.depth_stride)
        require_agreement(network, model.config)
    if network.adapter is not None:
        add_adapter(model, network.adapter, key(seed, "adapter"))
    if going_on is not None:
        continue_adapter(model, going_on, network.allow_pickle)
    # A loaded model comes in evaluation mode, in which its dropout would stay off in training.
    return model.train()


def dropout_of(network: Network) -> dict[str, int | float | bool | str]:
    """Returns the dropout rates that replace those of a source."""
    return {name: value for name, value in network.config.items() if "drop" in name}


def _build_from_scratch(
    network: Network, tokenizer: PreTrainedTokenizerBase, seed: int
) -> PreTrainedModel:
    family = FAMILIES[network.family]
    if not network.config:
        raise UserError(
            "model.network has neither source nor config: give a hub name or folder as "
            "model.network.source, or a family fragment such as configs/families/gpt2-tiny.yaml"
        )
    if network.depth_stride != 1:
        raise UserError(
            f"model.network.depth_stride is {network.depth_stride} but there is no "
            "model.network.source to take blocks from: name one, or leave depth_stride at 1"
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
        return new_model(config)


def load_model(
    source: str,
    dropout: Mapping[str, int | float | bool | str] = _NO_CHANGE,
    allow_pickle: bool = False,
) -> PreTrainedModel:
    """Loads a causal language model in float32, plain: an adapter is merged into the weights.

    Args:
        source: A hub name, a ``save_pretrained`` folder, a folder of PEFT's that holds a LoRA
            adapter alone, or a Lightning checkpoint that a run of this project wrote.
        dropout: Dropout rates, by their configuration names, that replace the stored ones.
        allow_pickle: Whether pickled weights are read where there are no safetensors; our own
            checkpoints always are. Nothing but tensors and plain values is ever unpickled.

    Raises:
        UserError: If there is nothing to load there, it belongs to no known family, or its weights
            are not exactly those of its network.
    """
    folder = Path(source).expanduser()
    if source.endswith(".ckpt"):
        model = load_checkpoint(source, dropout)
    elif is_adapter_folder(folder):
        base = load_model(adapter_base(folder), dropout, allow_pickle)
        model = merge_adapter_folder(base, folder, allow_pickle)
    else:
        model = _load_pretrained(source, dropout, allow_pickle)
    family_of(model)
    return model


def _load_pretrained(
    source: str, dropout: Mapping[str, Any], allow_pickle: bool
) -> PreTrainedModel:
    place = place_of(source)
    if place.looks_like_a_path and not place.is_folder:
        raise UserError(
            f"model folder {source} does not exist: give a save_pretrained folder or a hub name"
        )
    what = f"model {source!r}"
    try:
        config = AutoConfig.from_pretrained(place.name, **place.options, **dropout)
        with _without_reports():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                place.name,
                config=config,
                dtype=torch.float32,
                attn_implementation="sdpa",
                use_safetensors=None if allow_pickle else True,
                weights_only=True,
                # Reported with the missing ones, and then refused.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **place.options,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        reason = first_line(error)
        pickled = not allow_pickle and SAFE_WEIGHTS_NAME in reason
        hint = "; allow_pickle: true reads pickled weights, if that is all there is"
        raise UserError(f"{what} cannot be loaded: {reason}{hint * pickled}") from error
    model, report = loaded
    require_names(
        what, report["missing_keys"], report["unexpected_keys"], report["mismatched_keys"]
    )
    require_tied(what, model, dict(model.named_parameters(remove_duplicate=False)))
    return model


@contextmanager
def _without_reports() -> Iterator[None]:
    """Leaves out the library's tables of weights that do not fit: they are refused in one line."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def require_same_vocabulary(source: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuses a model whose vocabulary is not the tokenizer's.

    Compared by the hash of the token-to-id map: OpenLLaMA and Llama-2 both have 32,000 tokens, and
    they are not the same ones.

    Args:
        source: The model's hub name, folder or checkpoint; a folder must hold its tokenizer, where
            it is an adapter's the base may hold it instead.
        tokenizer: The tokenizer of this run's data.

    Raises:
        UserError: Naming both vocabularies and their sizes, if they differ.
    """
    folder = Path(source).expanduser()
    if source.endswith(".ckpt"):
        metadata = read_checkpoint(source)[METADATA_KEY]
        size, theirs = metadata["vocabulary_size"], metadata["vocabulary_hash"]
    elif is_adapter_folder(folder) and not any(folder.glob("tokenizer*")):
        return require_same_vocabulary(adapter_base(folder), tokenizer)
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


def require_agreement(network: Network, config: PreTrainedConfig) -> None:
    """Refuses a loaded model that is not the one that the network describes.

    Raises:
        UserError: If its family or a figure of its configuration is another.
    """
    family = config.model_type
    if family != network.family:
        raise UserError(
            f"model.network.source {network.source} is a {family} model, model.network.family says "
            f"{network.family}"
        )
    for name, expected in network.config.items():
        actual = getattr(config, name, None)
        if actual != expected and "drop" not in name:
            every = f" at depth_stride {network.depth_stride}" if network.depth_stride > 1 else ""
            raise UserError(
                f"model.network.source {network.source}{every} has {name}={actual}, "
                f"model.network.config.{name} says {expected}"
            )
