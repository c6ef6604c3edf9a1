"""Floating-point operations that a model's passes need, by arithmetic.

The convention of PaLM's model FLOP utilisation (Chowdhery et al. 2022, arXiv 2204.02311, appendix
B): two for every weight of a matrix and token, and 4 H T for every token, block and T tokens of its
record that attention compares; norms, activations and embeddings are left out, and windows that
attention slides within are counted as if they held the whole record. Departure: the head is counted
at scored positions alone, because nothing else is multiplied with it here.
"""

from dataclasses import astuple, dataclass
from operator import add

import torch
from torch import nn

from datamodules.batches import InstructionBatch
from kdmodules.models.anatomy import transformer_blocks
from kdmodules.models.causal_lm import CausalLM


@dataclass(frozen=True)
class PassSize:
    """What a batch makes a model work through.

    Attributes:
        tokens: Tokens that are read, padding left out.
        squares: Sum over records of the square of their tokens.
        scored: Positions that the head is multiplied with.
    """

    tokens: int
    squares: int
    scored: int

    @classmethod
    def of(cls, batch: InstructionBatch) -> "PassSize":
        """Returns the size of a batch."""
        lengths = batch.attention_mask.sum(dim=1)
        sizes = (lengths.sum(), (lengths**2).sum(), batch.response_mask[:, 1:].sum())
        return cls(*map(int, sizes))

    def __add__(self, other: "PassSize") -> "PassSize":
        return PassSize(*map(add, astuple(self), astuple(other)))


NOTHING = PassSize(0, 0, 0)


@dataclass(frozen=True)
class ModelCost:
    """What a model's passes cost, per unit of :class:`PassSize`.

    Attributes:
        trunk: Weights of matrices that every token meets.
        attention: Sum over blocks of the width that attention works at.
        head: Weights of the head.
        trained: Weights among those of ``trunk`` that get a gradient.
        head_trained: Weights of the head that get a gradient.
    """

    trunk: int
    attention: int
    head: int
    trained: int
    head_trained: int

    @classmethod
    def of(cls, lm: CausalLM) -> "ModelCost":
        """Returns the cost of a model; an adapter's matrices count with the trunk."""
        config, stacked = lm.model.config, transformer_blocks(lm.model)
        trunk = [parameter for parameter in stacked.parameters() if parameter.ndim > 1]
        trunk += _projections(lm.model)
        heads = int(config.num_attention_heads)
        width = heads * int(getattr(config, "head_dim", None) or config.hidden_size // heads)
        head = lm.model.get_output_embeddings().weight
        # A token meets those experts of a stack that it is sent to.
        share = getattr(config, "num_experts_per_tok", None) or 1
        met = [matrix[:share].numel() if matrix.ndim == 3 else matrix.numel() for matrix in trunk]
        return cls(
            trunk=sum(met),
            attention=len(stacked) * width,
            head=head.numel(),
            trained=sum(
                number for number, matrix in zip(met, trunk, strict=True) if matrix.requires_grad
            ),
            head_trained=head.numel() if head.requires_grad else 0,
        )

    def forward(self, size: PassSize) -> float:
        """Returns the operations of a forward pass."""
        return self._products(size, self.trunk, self.head)

    def training(self, size: PassSize) -> float:
        """Returns the operations of a forward and a backward pass.

        The backward pass costs as much as the forward for the gradients of what a layer read, and
        again for those of its weights, where they are trained. Nothing is counted for what
        activation checkpointing computes twice.
        """
        of_weights = self._products(size, self.trained, self.head_trained)
        return 2.0 * self.forward(size) + of_weights

    def _products(self, size: PassSize, trunk: int, head: int) -> float:
        of_attention = 4.0 * self.attention * size.squares
        return 2.0 * trunk * size.tokens + of_attention + 2.0 * head * size.scored


def _projections(model: nn.Module) -> list[torch.nn.Parameter]:
    """Returns OPT-350M's maps between the width of its embeddings and that of its blocks."""
    return [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.ndim == 2 and (".project_in." in name or ".project_out." in name)
    ]
