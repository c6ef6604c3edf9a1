"""Tiny random models of the three families, and a small tokenizer."""

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from datamodules.tokenizer import train_tokenizer
from kdmodules.models.network import Network, build_network

TINY = {
    "gpt2": {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 128},
    "opt": {
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "hidden_size": 32,
        "word_embed_proj_dim": 16,
        "ffn_dim": 64,
        "max_position_embeddings": 128,
        "do_layer_norm_before": False,
    },
    "llama": {
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "max_position_embeddings": 128,
    },
}


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of 300 tokens."""
    words = " ".join(f"the cat {i} sat on the mat {i * 7}" for i in range(200))
    return train_tokenizer([words], 300)


one_family = pytest.mark.parametrize(
    "family_model",
    ["gpt2", *(pytest.param(family, marks=pytest.mark.slow) for family in ("llama", "opt"))],
    indirect=True,
)
"""For what does not depend on a family, of which it is tried on one: the others are slow."""


@pytest.fixture(params=["gpt2", "opt", pytest.param("llama", marks=pytest.mark.slow)])
def family_model(
    request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast
) -> PreTrainedModel:
    """A random model of each family; OPT's has a projection behind its trunk, as OPT-350M has."""
    torch.manual_seed(0)
    return build_network(
        Network(request.param, None, TINY[request.param]), tokenizer, seed=1
    ).eval()
