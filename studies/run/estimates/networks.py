"""The networks of a study's cells, built on the meta device: what they hold, without their weights.

A configuration comes from the network's fragment, from the cell that a run's weights are taken
from, or from a folder. Nothing is downloaded: where none of these says how large a network is, it
is unknown.
"""

import json
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from common.errors import UserError
from datamodules.instruction import TRAINED, InstructionDataModule
from datamodules.tokenizer import load_tokenizer
from kdmodules.models.adapters import Adapter, add_adapter
from kdmodules.models.anatomy import transformer_blocks
from kdmodules.models.architectures import config_class, new_model, require_causal
from kdmodules.models.depth_pruning import pruned_config
from studies.plan.settings import Settings, default_of

_LLAMA_SIZES = (
    *("vocab_size", "num_hidden_layers", "hidden_size", "intermediate_size"),
    *("num_attention_heads", "num_key_value_heads", "tie_word_embeddings"),
)
_SIZES = {
    "gpt2": ("vocab_size", "n_positions", "n_layer", "n_embd"),
    "opt": (
        *("vocab_size", "max_position_embeddings", "num_hidden_layers", "hidden_size"),
        *("word_embed_proj_dim", "ffn_dim"),
    ),
    "llama": _LLAMA_SIZES,
}
"""Names in a configuration that a network's size follows from, of the published networks: where a
fragment gives them all, its source need not be at hand."""


class UnknownNetworkError(Exception):
    """A network whose size cannot be known offline; the message is the reason, one line."""


@dataclass(frozen=True)
class Figures:
    """Sizes of a network.

    Attributes:
        parameters: Distinct parameters, an adapter's included; a tied head counts once.
        trainable: Those that are trained.
        block: Parameters of the largest block.
        root: Parameters outside the blocks: embeddings, final norm, head.
        head: Weights of the head, tied or not.
    """

    parameters: int
    trainable: int
    block: int
    root: int
    head: int


@dataclass(frozen=True)
class NetworkSpec:
    """Which network a run trains or holds.

    Attributes:
        family: The model type of its configuration, such as gpt2.
        config: Complete configuration by the architecture's own names, as JSON.
        adapter: The adapter that is trained, as JSON; empty trains every weight.
    """

    family: str
    config: str
    adapter: str = ""

    def merged(self) -> "NetworkSpec":
        """Returns the network that a run exports: its adapter is in the weights."""
        return replace(self, adapter="")

    def pruned(self, stride: int) -> "NetworkSpec":
        """Returns what keeping every n-th block leaves."""
        if stride == 1:
            return self
        config = pruned_config(self._configuration(), stride)
        return replace(self, config=json.dumps(config.to_dict(), sort_keys=True, default=str))

    def _configuration(self) -> PreTrainedConfig:
        tokens = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
        return config_class(self.family).from_dict({**json.loads(self.config), **tokens})

    def build(self, device: str = "meta") -> PreTrainedModel:
        """Builds the network with its adapter and weights that mean nothing; none on "meta"."""
        with torch.device(device):
            model = new_model(self._configuration())
            if self.adapter:
                add_adapter(model, Adapter(**json.loads(self.adapter)), seed=0)
        return model

    def figures(self) -> Figures:
        """Counts the network on the meta device.

        Raises:
            UserError: The architecture has no network of such a configuration.
        """
        return _figures(self)


@cache
def _figures(spec: NetworkSpec) -> Figures:
    try:
        model = spec.build()
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"no {spec.family} network has such a configuration: {reason}") from error
    parameters = list(model.parameters())
    blocks = transformer_blocks(model)
    each = [sum(weight.numel() for weight in block.parameters()) for block in blocks]
    total = sum(weight.numel() for weight in parameters)
    return Figures(
        parameters=total,
        trainable=sum(weight.numel() for weight in parameters if weight.requires_grad),
        block=max(each),
        root=total - sum(each),
        head=model.get_output_embeddings().weight.numel(),
    )


def network_of(settings: Settings, upstream: NetworkSpec | None) -> NetworkSpec:
    """Finds a run's network.

    Args:
        settings: The run's.
        upstream: The network of the cell whose export the weights come from; None where they come
            from elsewhere.

    Raises:
        UnknownNetworkError: Its size is not known offline; says why.
        UserError: The configuration is none of its architecture's.
    """
    named = settings.get("model.network.family")
    family = None if named is None else str(named)
    if family is not None:
        config_class(family)
    adapter = settings.section("model.network.adapter")
    stride = settings.count("model.network.depth_stride", 1)
    if upstream is not None:
        network = upstream.merged().pruned(stride)
    else:
        network = _described(settings, family, stride)
    if family not in (None, network.family):
        raise UserError(
            f"model.network.source is a {network.family} model, model.network.family says {family}"
        )
    return replace(network, adapter=_filled(adapter))


def _filled(adapter: dict[str, Any]) -> str:
    """Returns an adapter's options with its defaults, as JSON; empty without an adapter."""
    if not adapter:
        return ""
    try:
        return json.dumps(asdict(Adapter(**adapter)), sort_keys=True)
    except TypeError as error:
        raise UserError(f"model.network.adapter: {error}") from error


def _described(settings: Settings, family: str | None, stride: int) -> NetworkSpec:
    given = settings.section("model.network.config")
    source = settings.get("model.network.source")
    if source is None:
        if not given:
            raise UnknownNetworkError("neither model.network.source nor its config is given")
        if family is None:
            raise UnknownNetworkError("neither model.network.source nor its family is given")
        given["vocab_size"] = _vocabulary(settings)
    elif family not in _SIZES or any(name not in given for name in _SIZES[family]):
        return stored_network(str(source)).pruned(stride)
    return NetworkSpec(family, json.dumps(given, sort_keys=True))


def stored_network(source: str) -> NetworkSpec:
    """Reads a network's configuration in a local `save_pretrained` folder.

    Raises:
        UnknownNetworkError: There is none: a hub name, a checkpoint, an adapter alone.
    """
    folder = Path(source).expanduser()
    if not (folder / "config.json").is_file():
        raise UnknownNetworkError(f"the configuration of {source} is not on this machine")
    config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
    require_causal(f"model {source!r}", config)
    config = config.get_text_config(decoder=True)
    return NetworkSpec(config.model_type, json.dumps(config.to_dict(), sort_keys=True, default=str))


def _vocabulary(settings: Settings) -> int:
    """Returns the rows of a scratch network's head: its tokenizer's."""
    tokenizer = settings.text("data.tokenizer", TRAINED)
    if tokenizer == TRAINED:
        default = default_of(InstructionDataModule, "vocabulary")
        return settings.count("data.vocabulary", default)
    if not Path(tokenizer).expanduser().is_dir():
        raise UnknownNetworkError(
            f"a network from scratch has the vocabulary of {tokenizer}, which is on the hub"
        )
    return len(load_tokenizer(tokenizer))
