"""What autograd keeps of a forward pass, counted in the code that runs and scaled to the network.

How much a block keeps for its backward pass follows from its code: which activation function, where
its norms are, whether dropout draws masks, what an adapter leaves frozen, what autocast casts. All
of it is linear in the widths. So the same code runs once with narrow layers, the tensors that
autograd saves are counted, and the counts are scaled to the widths in question.
"""

import json
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from kdmodules.models.causal_lm import CausalLM
from studies.run.estimates.networks import DEPTH, NetworkSpec

__all__ = ["ATTENTION_DROPOUT_BYTES", "Kept", "kept_bytes"]

ATTENTION_DROPOUT_BYTES = 12
"""Bytes that a CPU keeps for each head, token and earlier or later token where attention has
dropout, which its fused kernel lacks: the probabilities, the mask and their product in float32."""

_HEAD_WIDTH, _HEADS = 16, 4
_WIDTH, _INNER, _TOKENS, _VOCABULARY = _HEADS * _HEAD_WIDTH, 128, 8, 32
_TYPES = {"bf16-true": torch.bfloat16, "16-true": torch.float16}
_WIDTHS = {"gpt2": "n_embd", "opt": "hidden_size", "llama": "hidden_size"}
_INNERS = {"gpt2": "n_inner", "opt": "ffn_dim", "llama": "intermediate_size"}
_ALL_HEADS = {"gpt2": "n_head", "opt": "num_attention_heads", "llama": "num_attention_heads"}
_ATTENTION_DROPOUT = {
    "gpt2": "attn_pdrop",
    "opt": "attention_dropout",
    "llama": "attention_dropout",
}


@dataclass(frozen=True)
class Kept:
    """Bytes that autograd keeps from the forward to the backward pass.

    Attributes:
        block: Of one block, for each token.
        outside: Of embeddings and final norm, for each token.
        cast: Of one block's weights that autocast has cast, whatever the number of tokens.
        attention: Of one block for each token and each other token of its sequence, on a CPU.
    """

    block: float
    outside: float
    cast: float
    attention: float


def kept_bytes(spec: NetworkSpec, precision: str, dropout: bool = True) -> Kept:
    """Counts what a training step of a network keeps.

    Args:
        spec: The network.
        precision: Lightning's name: 32-true, bf16-mixed, 16-mixed, bf16-true, 16-true.
        dropout: Whether steps run with the network's dropout.

    Returns:
        Bytes under attention that is fused, as everywhere but on a CPU with attention dropout.
    """
    options = spec.options()
    family = spec.family
    figures = spec.figures()
    sizes = {_WIDTHS[family], _INNERS[family], _ALL_HEADS[family], DEPTH[family]}
    named = {"vocab_size", "head_dim", "word_embed_proj_dim", "num_key_value_heads"}
    rest = {name: value for name, value in options.items() if name not in sizes | named}
    rate = options.get(_ATTENTION_DROPOUT[family], 0.1 if family == "gpt2" else 0.0)
    kv_heads = max(1, _HEADS * figures.kv_width // figures.width)
    probe = _Probe(
        NetworkSpec(family, json.dumps(rest, sort_keys=True), spec.adapter),
        kv_heads,
        precision,
        dropout,
    )
    base, narrow = probe.slope(2, _WIDTH, _INNER), probe.slope(3, _WIDTH, _INNER)
    block = narrow - base
    wide = probe.slope(3, 2 * _WIDTH, _INNER) - probe.slope(2, 2 * _WIDTH, _INNER)
    deep = probe.slope(3, _WIDTH, 2 * _INNER) - probe.slope(2, _WIDTH, 2 * _INNER)
    by_width, by_inner = (wide - block) / _WIDTH, (deep - block) / _INNER
    weights = probe.constant(3, _WIDTH, _INNER) - probe.constant(2, _WIDTH, _INNER)
    return Kept(
        block=block + by_width * (figures.width - _WIDTH) + by_inner * (figures.inner - _INNER),
        outside=(base - 2 * block) * figures.width / _WIDTH,
        cast=weights * figures.block / probe.block_parameters(),
        attention=ATTENTION_DROPOUT_BYTES * figures.heads if rate and dropout else 0.0,
    )


@dataclass(frozen=True)
class _Probe:
    """A network of narrow layers that is otherwise like the one in question."""

    spec: NetworkSpec
    kv_heads: int
    precision: str
    dropout: bool

    def slope(self, depth: int, width: int, inner: int) -> float:
        """Bytes that one more token adds."""
        one, two = (_count(self, rows, depth, width, inner) for rows in (1, 2))
        return (two - one) / _TOKENS

    def constant(self, depth: int, width: int, inner: int) -> float:
        """Bytes whatever the number of tokens."""
        return _count(self, 1, depth, width, inner) - _TOKENS * self.slope(depth, width, inner)

    def block_parameters(self) -> int:
        """Parameters of a block of the narrow network."""
        family = self.spec.family
        narrow = NetworkSpec(
            family,
            json.dumps(self.spec.options() | self.sizes(1, _WIDTH, _INNER), sort_keys=True),
            self.spec.adapter,
        )
        return narrow.figures().block

    def sizes(self, depth: int, width: int, inner: int) -> dict[str, object]:
        """Returns the entries of the configuration that make the network narrow."""
        family = self.spec.family
        sizes: dict[str, object] = {
            DEPTH[family]: depth,
            _WIDTHS[family]: width,
            _INNERS[family]: inner,
            _ALL_HEADS[family]: _HEADS,
            _ATTENTION_DROPOUT[family]: 0.0,
            "vocab_size": _VOCABULARY,
        }
        if family == "opt":
            sizes["word_embed_proj_dim"] = width
        if family == "llama":
            sizes["num_key_value_heads"] = self.kv_heads
        return sizes


@cache
def _count(probe: _Probe, rows: int, depth: int, width: int, inner: int) -> int:
    """Runs a narrow network forward and returns the bytes of all that it saves but weights."""
    with torch.random.fork_rng(devices=[]):
        model = probe.spec.build("cpu", probe.sizes(depth, width, inner))
        lm = CausalLM(model, _VOCABULARY).to(_TYPES.get(probe.precision, torch.float32))
        weights = {one.untyped_storage().data_ptr() for one in model.parameters()}
        saved: dict[int, Tensor] = {}

        def keep(tensor: Tensor) -> Tensor:
            saved.setdefault(tensor.untyped_storage().data_ptr(), tensor)
            return tensor

        ids = torch.zeros(rows, _TOKENS, dtype=torch.long)
        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        mixed = torch.autocast("cpu", torch.bfloat16, enabled=probe.precision.endswith("mixed"))
        with hooks, mixed, lm.in_step(probe.dropout):
            lm.states(ids, torch.ones_like(ids))
    return sum(
        tensor.untyped_storage().nbytes()
        for pointer, tensor in saved.items()
        if pointer not in weights
    )
