"""The text that a model would write token by token after a record's own tokens."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from callbacks.greedy_pass import force_responses
from callbacks.membership.signals.base import ModelAccess, RecordSignal
from datamodules.batches import EncodedRecord
from datamodules.records import InstructionRecord


@dataclass(frozen=True)
class CompressedArgmaxText(RecordSignal):
    """Bytes of the zlib-compressed text of the most likely tokens, teacher-forced, [B, 1]."""

    @property
    def label(self) -> str:
        """The signal's name."""
        return "audited: compressed argmax text"

    @property
    def passes(self) -> float:
        """One."""
        return 1.0

    def measure(
        self,
        access: ModelAccess,
        records: Sequence[InstructionRecord],
        encoded: Sequence[EncodedRecord],
    ) -> Tensor:
        """Returns the number of bytes, [B, 1] float64."""
        forced = force_responses(access, encoded, self.label)
        texts = access.encoder.tokenizer.batch_decode(
            [list(one.best_ids) for one in forced], skip_special_tokens=True
        )
        sizes = [len(zlib.compress(text.encode("utf-8"))) for text in texts]
        return torch.tensor(sizes, dtype=torch.float64).unsqueeze(1)
