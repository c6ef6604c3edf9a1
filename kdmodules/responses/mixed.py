"""Student text for a share of the training, the data set's own for the rest."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch

from common.errors import UserError
from common.keys import key
from common.options import require_at_least, require_share
from datamodules.batches import InstructionBatch
from kdmodules.responses.source import ResponseContext
from kdmodules.responses.student import StudentResponses
from kdmodules.sampling.sampler import SamplingSettings

_KEY_RANGE = 2.0**63


def keyed_coin(probability: float, *parts: int | str) -> bool:
    """Tosses a coin that is a pure function of ``parts``: True with the given probability."""
    return key(*parts) < probability * _KEY_RANGE


class MixedResponses(StudentResponses):
    """Fresh student samples with a probability, else the data set's responses (GKD, ImitKD).

    GKD (Agarwal et al. 2024, algorithm 1) tosses one coin per step: all ranks and micro-batches of
    a global batch agree. ImitKD (Lin et al. 2020, section 3.2) tosses one per record, and the data
    set's share falls as ``dataset_decay ** (-t / N)`` over N steps; its configurations have a decay
    of 200 for WMT and IWSLT and of 10 for CNN/DailyMail. Each batch says in the extra
    ``from_dataset``, [B], whose text a row is: 1 the data set's, 0 the student's.

    Args:
        probability: Of student samples, in [0, 1]; unused where ``dataset_decay`` is given.
        coin: ``batch`` for one coin per optimiser step, ``record`` for one per record.
        dataset_decay: The data set's share falls from 1 to one over this; at least 1.
        sampling: How the student decodes; by default at temperature 1, up to 256 tokens.
        sampling_batch_size: Most prompts that are decoded together.

    Raises:
        UserError: If an option is out of range.
    """

    extras = ("from_dataset",)

    def __init__(
        self,
        probability: float = 0.5,
        coin: Literal["batch", "record"] = "batch",
        dataset_decay: float | None = None,
        sampling: SamplingSettings | None = None,
        sampling_batch_size: int = 64,
    ) -> None:
        super().__init__(sampling, sampling_batch_size)
        require_share(probability=probability)
        if coin not in ("batch", "record"):
            raise UserError(f"coin is {coin!r}: choose batch or record")
        if dataset_decay is not None:
            require_at_least(1, dataset_decay=dataset_decay)
        self.probability = probability
        self.coin = coin
        self.dataset_decay = dataset_decay

    def student_share(self, context: ResponseContext) -> float:
        """Returns the probability of student samples at a step."""
        if self.dataset_decay is None:
            return self.probability
        return 1.0 - self.dataset_decay ** (-context.step / context.total_steps)

    def replace(self, batch: InstructionBatch, context: ResponseContext) -> InstructionBatch:
        """Returns the batch as the coins fell."""
        share = self.student_share(context)
        parts = (context.seed, "student or data set", context.step)
        if self.coin == "record":
            chosen = [keyed_coin(share, *parts, name) for name in batch.record_ids]
        else:
            chosen = [keyed_coin(share, *parts)] * len(batch.record_ids)
        if self.coin == "record" or any(chosen):
            batch = self.sampled(batch, context, chosen)
        return _with_origin(batch, chosen)


def _with_origin(batch: InstructionBatch, chosen: Sequence[bool]) -> InstructionBatch:
    """Returns the batch with the extra that tells the data set's rows from the student's."""
    own = torch.tensor([0.0 if one else 1.0 for one in chosen], device=batch.input_ids.device)
    return replace(batch, extras={**batch.extras, "from_dataset": own})
