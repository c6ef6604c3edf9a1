"""Gradient norm of each block: where training has worked on a record, little is left to change.

Wang et al., "Pandora's White-Box: Precise Training Data Detection and Extraction in Large Language
Models", 2024 (arXiv 2402.17012), block by block. A block that was never trained on a record has a
small gradient too once the others know it, so this does not tell where a record is stored.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from audits.blocks.profile import Reading
from audits.blocks.signals.base import BlockAccess, RerunSignal
from audits.blocks.weights import weights_by_block
from audits.membership.signals.weights import differentiable
from audits.scoring.batches import over_batches
from common.errors import UserError
from datamodules.batches import EncodedRecord, InstructionBatch
from kdmodules.models.causal_lm import CausalLM
from kdmodules.token_means import naming_records, supervised_sums


class BlockGradNorm(RerunSignal):
    """Minus the p-norm of the gradient of a record's mean NLL by all weights of a block.

    Unit: nats per token and unit of weight. Frozen weights count too, and an adapter's. Records are
    taken one at a time, so that no record's number depends on another's.

    Args:
        p: Order of the norm, at least 1.

    Raises:
        UserError: If p is below 1 or not finite.
    """

    name = "block_grad_norm"

    def __init__(self, p: float = 2.0) -> None:
        if not 1 <= p < math.inf:
            raise UserError(f"{self.name}: p is {p}: give a finite number of at least 1")
        self.p = float(p)
        self.params = {"p": self.p}

    def measure(self, access: BlockAccess, encoded: Sequence[EncodedRecord]) -> Tensor:
        """Returns the norms, [R, L, 1].

        Raises:
            UserError: If the weights are sharded or in half precision.
            FloatingPointError: Naming the record whose loss is not a number.
        """
        by_block = weights_by_block(access.model.lm, self.name)
        every = list(chain.from_iterable(weights.values() for weights in by_block))

        def compute(lm: CausalLM, batch: InstructionBatch) -> Tensor:
            with naming_records(batch):
                sums = supervised_sums(lm, batch)
            # Not backward(): the gradients that a fit has accumulated stay as they are.
            found = iter(torch.autograd.grad(sums["loss"] / sums["tokens"], every))
            norms = [
                torch.stack(
                    [torch.linalg.vector_norm(next(found), self.p).double() for _ in weights]
                )
                for weights in by_block
            ]
            return torch.stack([torch.linalg.vector_norm(one, self.p) for one in norms])[None]

        one_by_one = replace(access.model, batch_size=1)
        with differentiable(access.model.lm, every):
            label = f"blocks: {self.name}"
            return over_batches(one_by_one, encoded, label, compute).unsqueeze(2)

    def readings(self, measured: Tensor) -> list[Reading]:
        """Returns the profile of minus the norm."""
        every = tuple(range(measured.shape[1]))
        return [Reading(self.name, self.params, every, -measured[:, :, 0].numpy())]
