"""Published families built on the meta device: their sizes, and where their parts are."""

import socket
from typing import NoReturn

import huggingface_hub.constants
import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from kdmodules.models import anatomy
from kdmodules.models.adapters import Adapter, add_adapter
from kdmodules.models.architectures import config_class, new_model
from kdmodules.models.depth_pruning import prune_depth
from tests.configs.conftest import read_fragment

PUBLISHED = {
    # Fragment: millions of parameters (from the models’ cards), blocks, width, window.
    "gpt2-xl": (1558, 48, 1600, 1024),
    "gpt2-large": (774, 36, 1280, 1024),
    "gpt2-medium": (355, 24, 1024, 1024),
    "gpt2-base": (124, 12, 768, 1024),
    "opt-2.7b": (2652, 32, 2560, 2048),
    "opt-1.3b": (1316, 24, 2048, 2048),
    "opt-350m": (331, 24, 1024, 2048),
    "opt-125m": (125, 12, 768, 2048),
    "open_llama-7b": (6738, 32, 4096, 2048),
    "open_llama-3b": (3426, 26, 3200, 2048),
    "llama-2-7b": (6738, 32, 4096, 4096),
    # Every second block of it: 262.1 M around the blocks, 202.4 M in each of them.
    "llama-2-7b-half": (3500, 16, 4096, 4096),
}
QUICK = ("gpt2-base", "opt-350m", "open_llama-3b")
"""One of each architecture; OPT's odd one."""


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is switched off, and whoever asks the network all the same fails."""

    def refuse(*_: object) -> NoReturn:
        raise OSError("a published family asked the network")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def build(fragment: str) -> PreTrainedModel:
    network = read_fragment(f"families/{fragment}")["model"]["init_args"]["network"]
    with torch.device("meta"):
        return new_model(config_class(network["family"])(**network["config"]))


@pytest.mark.parametrize(
    "fragment",
    [pytest.param(one, marks=[] if one in QUICK else pytest.mark.slow) for one in PUBLISHED],
)
def test_size_and_parts(fragment: str) -> None:
    millions, n_blocks, width, window = PUBLISHED[fragment]
    model = build(fragment)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert round(model.num_parameters() / 1e6) == millions
    assert len(anatomy.transformer_blocks(model)) == n_blocks
    assert anatomy.context_window(model) == window

    states = torch.empty(1, 3, width, device="meta")
    logits = anatomy.head_of(model).logits(anatomy.head_inputs(model, states))
    assert logits.shape == (1, 3, model.config.vocab_size)


@pytest.mark.parametrize("fragment", PUBLISHED)
def test_every_option_is_one_of_the_model(fragment: str) -> None:
    """`build_network` compares each option with the loaded model's: it must have them all."""
    network = read_fragment(f"families/{fragment}")["model"]["init_args"]["network"]
    configuration = config_class(network["family"])
    defaults = configuration().to_dict()
    built = configuration(**network["config"])
    for name, value in network["config"].items():
        assert name in defaults, name
        assert getattr(built, name) == value, name


@pytest.mark.slow
def test_every_second_block_of_llama_2_is_its_half() -> None:
    half = build("llama-2-7b-half")
    stride = read_fragment("families/llama-2-7b-half")["model"]["init_args"]["network"][
        "depth_stride"
    ]
    pruned = prune_depth(build("llama-2-7b"), stride)
    assert pruned.config.to_dict() == half.config.to_dict()
    expected = {name: value.shape for name, value in half.state_dict().items()}
    assert {name: value.shape for name, value in pruned.state_dict().items()} == expected


@pytest.mark.parametrize(
    ("fragment", "trained"),
    # Blocks x 2 projections x (16 x width + width x 16).
    [
        ("open_llama-3b", 26 * 2 * 2 * 16 * 3200),
        pytest.param("open_llama-7b", 32 * 2 * 2 * 16 * 4096, marks=pytest.mark.slow),
        pytest.param("llama-2-7b", 32 * 2 * 2 * 16 * 4096, marks=pytest.mark.slow),
        pytest.param("llama-2-7b-half", 16 * 2 * 2 * 16 * 4096, marks=pytest.mark.slow),
    ],
)
def test_what_an_adapter_trains(fragment: str, trained: int) -> None:
    network = read_fragment(f"families/{fragment}")["model"]["init_args"]["network"]
    model = build(fragment)
    whole = model.num_parameters()
    with torch.device("meta"):
        add_adapter(model, Adapter(**network["adapter"]), seed=0)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trained
    assert model.num_parameters() == whole + trained


def test_opt_350m_has_no_final_norm_and_a_projection() -> None:
    models = {name: build(name) for name in ("opt-350m", "opt-125m")}
    for name, model in models.items():
        odd = name == "opt-350m"
        assert isinstance(anatomy.final_norm(model), nn.Identity) == odd, name
        width = model.config.hidden_size
        inputs = anatomy.head_inputs(model, torch.empty(1, width, device="meta"))
        assert (inputs.shape[1] != width) == odd, name
        if odd:
            assert (width, inputs.shape[1]) == (1024, 512)
            assert anatomy.head_of(model).weight is model.get_input_embeddings().weight
