"""A block's weights: by name, and given back to the bit."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from callbacks.blocks.recorder import transformer_blocks
from callbacks.membership.signals.weights import named_weights
from kdmodules.causal_lm import CausalLM


def weights_by_block(lm: CausalLM, signal: str) -> list[dict[str, nn.Parameter]]:
    """Returns each block's parameters by their name in the whole model.

    An adapter's matrices are weights of the block that they are in. Embeddings and a head that is
    tied to them belong to no block.

    Args:
        lm: The audited model.
        signal: Who asks, for the error.

    Raises:
        UserError: If weights are sharded or in half precision, or the structure is unknown.
    """
    names = {id(weight): name for name, weight in named_weights(lm, signal).items()}
    return [
        {names[id(weight)]: weight for weight in block.parameters()}
        for block in transformer_blocks(lm.model)
    ]


@contextmanager
def given_back(weights: Mapping[str, nn.Parameter]) -> Iterator[dict[str, Tensor]]:
    """Yields copies of weights and writes them back afterwards, whatever happened."""
    originals = {name: weight.detach().clone() for name, weight in weights.items()}
    try:
        yield originals
    finally:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(originals[name])
