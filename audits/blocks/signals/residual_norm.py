"""How much, and in which direction, a block changes the residual stream."""

import torch
from torch import Tensor

from audits.blocks.profile import Reading
from audits.blocks.readout import record_means
from audits.blocks.signals.base import BlockStep, RecordedSignal, undirected_readings

_MEASURES = ("norm", "cosine")


class ResidualNorm(RecordedSignal):
    """Norm of a block's update u = output - input, and its cosine with the input.

    Both are means over the positions that predict the response. Neither sign was said to be a
    member's beforehand, so both are tested from two sides.
    """

    name = "residual_norm"

    def read(self, step: BlockStep) -> Tensor:
        """Returns norm and cosine, [B, 2]."""
        entered = step.entered.float()
        update = step.left.float() - entered
        norm = torch.linalg.vector_norm(update, dim=-1)
        cosine = torch.cosine_similarity(update, entered, dim=-1)
        return record_means(torch.stack([norm, cosine], dim=1), step.batch)

    def readings(self, measured: Tensor) -> list[Reading]:
        """Returns the profiles of norm and cosine."""
        return undirected_readings(self.name, measured, [{"measure": one} for one in _MEASURES])
