"""Building a causal language model: from scratch, a hub name, a folder, or a checkpoint of ours."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from common.errors import UserError, first_line
from common.keys import key
from common.options import require_share
from datamodules.tokenizer import load_tokenizer, vocabulary_hash
from kdmodules.models.adapter_files import (
    adapter_folder_of,
    has_tokenizer,
    merge_adapter_folder,
    named_base,
)
from kdmodules.models.adapters import Adapter, add_adapter
from kdmodules.models.architectures import config_class, new_model
from kdmodules.models.checkpoints import METADATA_KEY, load_checkpoint, read_checkpoint
from kdmodules.models.continued_adapter import adapter_folder, continue_adapter
from kdmodules.models.depth_pruning import prune_depth
from kdmodules.models.pretrained import DeviceMap, Dtype, load_pretrained, quantisation_of

_SIZES = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("intermediate_size", "max_position_embeddings", "head_dim"),
)
_WEIGHT_BYTES = 4
_NO_CHANGE: Mapping[str, int | float | bool | str] = {}


@dataclass
class Network:
    """Which model a stage trains or audits.

    Attributes:
        family: The architecture, by the model type of its Hugging Face configuration: gpt2, opt,
            llama, qwen3 or any other causal language model of transformers. None takes what
            ``source`` is; a network that starts from scratch needs one.
        source: Where the weights come from: a hub name, also with a revision and a subfolder
            (``owner/name@revision:subfolder``), a ``save_pretrained`` folder, a folder or hub name
            that holds a LoRA adapter alone, a GGUF file, or a ``.ckpt`` of ours. Without one the
            network starts from scratch with seeded random weights.
        config: Hyper-parameters by the names of the family's Hugging Face configuration. They
            define a network that starts from scratch and must agree with what ``source`` loads
            (the depth with what is left of it), except dropout rates, which replace the loaded
            ones.
        dropout: Of every dropout rate that the architecture's configuration has; needs ``family``.
            None leaves them as ``config`` and ``source`` say.
        depth_stride: Keep every n-th block of ``source``, starting with its first.
        adapter: Train this adapter and freeze everything else; None trains every weight.
        activation_checkpointing: Keep only the inputs of each block and compute the rest of its
            activations again in the backward pass.
        compiled: Train with blocks that ``torch.compile`` has fused; what only reads the model runs
            them as they are.
        allow_pickle: Read a ``source`` that has no safetensors from its pickled weights; nothing
            but tensors is taken from them.
        dtype: Type in which the weights are held and trained: float32, bfloat16, or auto for that
            in which ``source`` holds them.
        adapter_base: Takes the place of the base that an adapter as ``source`` names, which may be
            quantised or lie elsewhere.
    """

    family: str | None = None
    source: str | None = None
    config: dict[str, int | float | bool | str] = field(default_factory=dict)
    dropout: float | None = None
    depth_stride: int = 1
    adapter: Adapter | None = None
    activation_checkpointing: bool = False
    compiled: bool = False
    allow_pickle: bool = False
    dtype: Dtype = "float32"
    adapter_base: str | None = None


def build_network(
    network: Network, tokenizer: PreTrainedTokenizerBase, seed: int
) -> PreTrainedModel:
    """Builds the model of a stage in its type of weights and in training mode.

    Args:
        network: What to build.
        tokenizer: Gives a scratch network its vocabulary; must be the vocabulary of a loaded one.
        seed: Seed of the weights of a network that starts from scratch, and of an adapter's.

    Raises:
        UserError: If the source cannot be loaded, is of another family or size than said, or has
            another vocabulary than the tokenizer, or is quantised; if there are no blocks to keep
            every n-th of; if the adapter's targets are not there, or the source holds none to go on
            with.
    """
    continued = network.adapter is not None and network.adapter.continued
    going_on = adapter_folder(network.source) if continued else None
    if network.source is None:
        model = _build_from_scratch(network, tokenizer, seed)
    else:
        require_same_vocabulary(network.source, tokenizer, network.adapter_base)
        base = (network.adapter_base or named_base(going_on)) if going_on else None
        loaded = load_model(
            base or network.source,
            dropout_of(network),
            network.allow_pickle,
            dtype=network.dtype,
            adapter_base=None if base else network.adapter_base,
        )
        _require_trainable(network.source, loaded)
        model = prune_depth(loaded, network.depth_stride)
        require_agreement(network, model.config)
    if network.adapter is not None:
        add_adapter(model, network.adapter, key(seed, "adapter"))
    if going_on is not None:
        continue_adapter(model, going_on, network.allow_pickle)
    # A loaded model comes in evaluation mode, in which its dropout would stay off in training.
    return model.train()


def dropout_of(network: Network) -> dict[str, int | float | bool | str]:
    """Returns the dropout rates that replace those of a source.

    Raises:
        UserError: One for all is given without the architecture, or it is no rate.
    """
    rates = {name: value for name, value in network.config.items() if "drop" in name}
    if network.dropout is None:
        return rates
    require_share("model.network.", dropout=network.dropout)
    if network.family is None:
        raise UserError(
            "model.network.dropout needs model.network.family, whose rates it sets: name the "
            "architecture, or give its rates under model.network.config"
        )
    known = config_class(network.family)().to_dict()
    own = (name for name in known if name.endswith(("pdrop", "dropout")))
    return rates | dict.fromkeys(own, network.dropout)


def _build_from_scratch(
    network: Network, tokenizer: PreTrainedTokenizerBase, seed: int
) -> PreTrainedModel:
    if not network.config:
        raise UserError(
            "model.network has neither source nor config: give a hub name or folder as "
            "model.network.source, or a family fragment such as configs/families/gpt2-tiny.yaml"
        )
    if network.family is None:
        raise UserError(
            "model.network has a config but neither source nor family: name the architecture as "
            "model.network.family, such as gpt2 or qwen3"
        )
    if network.adapter_base is not None:
        raise UserError(
            "model.network.adapter_base is given but no model.network.source: it takes the place "
            "of the base that an adapter names"
        )
    configuration = config_class(network.family)
    if network.depth_stride != 1:
        raise UserError(
            f"model.network.depth_stride is {network.depth_stride} but there is no "
            "model.network.source to take blocks from: name one, or leave depth_stride at 1"
        )
    known = configuration().to_dict()
    for name in network.config:
        if name not in known:
            raise UserError(
                f"model.network.config.{name} is not an option of {configuration.__name__}"
            )
    config = configuration.from_dict(
        {
            **network.config,
            **dropout_of(network),
            "vocab_size": len(tokenizer),
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            # An embedding with a padding row gets no gradient there, and the padding id may be eos.
            "pad_token_id": None,
        }
    )
    with torch.random.fork_rng(devices=[]):
        _require_buildable(config, network.config)
        torch.manual_seed(seed)
        model = new_model(config)
    return _cast(model, torch.bfloat16) if network.dtype == "bfloat16" else model


def _require_buildable(config: PreTrainedConfig, given: Mapping[str, object]) -> None:
    """Refuses sizes and rates that make no network; no memory is taken for its weights.

    Raises:
        UserError: With the sizes that are not positive, or what the architecture says of them.
    """
    sizes = {name: getattr(config, name, None) for name in _SIZES}
    for name, size in sizes.items():
        if size is not None and size < 1:
            known_as = config.attribute_map.get(name, name)
            raise UserError(f"model.network.config.{known_as} is {size}: give at least 1")
    try:
        with torch.device("meta"):
            size = sum(weight.numel() for weight in new_model(config).parameters())
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        told = ", ".join(f"{name}={value}" for name, value in given.items())
        why = f"nothing is called {error}" if isinstance(error, LookupError) else first_line(error)
        raise UserError(
            f"model.network.config ({told}) makes no {config.model_type} network: {why}"
        ) from error
    if size * _WEIGHT_BYTES > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        raise UserError(
            f"model.network.config makes {size:,} weights, more than this machine's memory holds"
        )


def _require_trainable(source: str, model: PreTrainedModel) -> None:
    method = quantisation_of(model.config)
    if method is not None:
        raise UserError(
            f"model.network.source {source} is quantised ({method}), and can be audited but not "
            "trained: give the same weights unquantised"
        )


def load_model(
    source: str,
    dropout: Mapping[str, int | float | bool | str] = _NO_CHANGE,
    allow_pickle: bool = False,
    *,
    dtype: Dtype = "float32",
    adapter_base: str | None = None,
    device_map: DeviceMap | None = None,
) -> PreTrainedModel:
    """Loads a causal language model, plain: an adapter is merged into the weights.

    Args:
        source: A hub name, a ``save_pretrained`` folder, a folder or hub name of PEFT's that holds
            a LoRA adapter alone, a GGUF file, or a Lightning checkpoint that a run of this project
            wrote. Of a model that reads images too, its text part is loaded.
        dropout: Dropout rates, by their configuration names, that replace the stored ones.
        allow_pickle: Whether pickled weights are read where there are no safetensors; our own
            checkpoints always are. Nothing but tensors and plain values is ever unpickled.
        dtype: Type of the weights; auto leaves them as they are stored.
        adapter_base: Takes the place of the base that an adapter names.
        device_map: Which devices hold which parts, as accelerate takes it; None loads onto the CPU.

    Raises:
        UserError: If there is nothing to load there, it is no causal language model, or its weights
            are not exactly those of its network.
    """
    if source.endswith(".ckpt"):
        if device_map is not None:
            raise UserError(f"device_map is given, but {source} is a checkpoint: export it first")
        return load_checkpoint(source, dropout, dtype)
    folder = adapter_folder_of(source)
    if folder is None:
        if adapter_base is not None:
            raise UserError(f"adapter_base is {adapter_base}, but {source} is no adapter alone")
        return load_pretrained(source, dropout, allow_pickle, dtype, device_map)
    named = adapter_base or named_base(folder)
    base = load_model(named, dropout, allow_pickle, dtype=dtype, device_map=device_map)
    method = quantisation_of(base.config)
    if method is not None:
        raise UserError(
            f"the adapter in {folder} is for {named}, which is quantised ({method}), and nothing "
            "can be merged into that: give the same weights unquantised as adapter_base"
        )
    return merge_adapter_folder(base, folder, allow_pickle)


def _cast(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype
    return model


def source_tokenizer(source: str, adapter_base: str | None = None) -> PreTrainedTokenizerBase:
    """Returns the tokenizer of a source; where an adapter brings none, that of its base.

    Args:
        source: A hub name or folder.
        adapter_base: Takes the place of the base that an adapter names.

    Raises:
        UserError: If there is none.
    """
    folder = adapter_folder_of(source)
    if folder is None or has_tokenizer(source):
        return load_tokenizer(source)
    return source_tokenizer(adapter_base or named_base(folder))


def require_same_vocabulary(
    source: str, tokenizer: PreTrainedTokenizerBase, adapter_base: str | None = None
) -> None:
    """Refuses a model whose vocabulary is not the tokenizer's.

    Compared by the hash of the token-to-id map: OpenLLaMA and Llama-2 both have 32,000 tokens, and
    they are not the same ones.

    Args:
        source: The model's hub name, folder or checkpoint; it must hold its tokenizer, where it is
            an adapter's the base may hold it instead.
        tokenizer: The tokenizer of this run's data.
        adapter_base: Takes the place of the base that an adapter names.

    Raises:
        UserError: Naming both vocabularies and their sizes, if they differ.
    """
    if source.endswith(".ckpt"):
        metadata = read_checkpoint(source)[METADATA_KEY]
        size, theirs = metadata["vocabulary_size"], metadata["vocabulary_hash"]
    else:
        other = source_tokenizer(source, adapter_base)
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
    if network.family not in (None, family):
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
