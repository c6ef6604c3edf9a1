"""Logit lens: what the head would say of a response if the network ended after a block.

nostalgebraist, "interpreting GPT: the logit lens", 2020 (LessWrong). At early blocks it is
descriptive: the final norm and the head were trained for the last block's stream, and what they
say of an earlier one is not calibrated (Belrose et al. 2023, arXiv 2303.08112).
"""

import torch
from torch import Tensor

from audits.blocks.profile import Reading
from audits.blocks.readout import mean_log_likelihood
from audits.blocks.signals.base import BlockStep, RecordedSignal
from common.errors import UserError


class LogitLens(RecordedSignal):
    """Mean log-probability of the response read behind a block, and its gain over the block before.

    Unit: nats per token. The gain is read at blocks whose predecessor is read too; the first block
    has none.

    Args:
        blocks: Indices of the blocks that are read, in ascending order; None reads all. Every block
            costs one product with the head.

    Raises:
        UserError: If the indices are not ascending from 0 or more.
    """

    name = "logit_lens"

    def __init__(self, blocks: list[int] | None = None) -> None:
        if blocks is not None and (not blocks or blocks != sorted({*blocks}) or blocks[0] < 0):
            raise UserError(f"{self.name}: blocks are {blocks}: give indices from 0, ascending")
        self.blocks = blocks

    def read(self, step: BlockStep) -> Tensor:
        """Returns the mean log-likelihood, [B, 1]; NaN at a block that is not asked for.

        Raises:
            UserError: If a block is asked for that the model does not have.
        """
        if step.block not in self.read_blocks(step.n_blocks):
            return torch.full((len(step.batch.record_ids), 1), torch.nan, device=step.left.device)
        return mean_log_likelihood(step.lm, self.seen(step), step.batch).unsqueeze(1)

    def seen(self, step: BlockStep) -> Tensor:
        """Returns the rows [N, D] that the final norm and the head are given."""
        return step.left

    def read_blocks(self, n_blocks: int) -> list[int]:
        """Returns the indices of the blocks that are read.

        Raises:
            UserError: If a block is asked for that the model does not have.
        """
        if self.blocks is not None and self.blocks[-1] >= n_blocks:
            raise UserError(
                f"{self.name}: there is no block {self.blocks[-1]}: the model's are 0 to "
                f"{n_blocks - 1}"
            )
        return list(range(n_blocks)) if self.blocks is None else self.blocks

    def readings(self, measured: Tensor) -> list[Reading]:
        """Returns the profiles of the likelihood and of its gain."""
        values = measured[:, :, 0].numpy()
        read = self.read_blocks(values.shape[1])
        gained = [block for block in read if block - 1 in read]
        likelihood, gain = (
            {"measure": measure, **self.params} for measure in ("log_likelihood", "gain")
        )
        readings = [Reading(self.name, likelihood, tuple(read), values[:, read])]
        if gained:
            gains = values[:, gained] - values[:, [block - 1 for block in gained]]
            readings.append(Reading(self.name, gain, tuple(gained), gains))
        return readings
