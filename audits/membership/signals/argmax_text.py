"""The text that a model would write token by token after a record's own tokens."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audits.membership.signals.base import RecordSignal
from audits.scoring.batches import run_batches
from audits.scoring.greedy_pass import force_batch
from audits.scoring.model_access import ModelAccess
from datamodules.batches import EncodedRecord, collate
from kdmodules.models.causal_lm import CausalLM, model_device


@dataclass(frozen=True)
class CompressedArgmaxText(RecordSignal):
    """Bytes of the zlib-compressed text of the most likely tokens, teacher-forced, [B, 1]."""

    @property
    def label(self) -> str:
        """The signal's name."""
        return "audited: compressed argmax text"

    def measure(self, access: ModelAccess, encoded: Sequence[EncodedRecord]) -> Tensor:
        """Returns the number of bytes, [B, 1] float64; of a batch's tokens only these are kept.

        Raises:
            FloatingPointError: Naming the record whose distribution is not a number.
        """

        def run(lm: CausalLM, places: Sequence[int]) -> list[int]:
            batch = collate([encoded[place] for place in places], access.encoder.pad_id)
            forced = force_batch(lm, batch.to(model_device(lm)))
            texts = access.encoder.tokenizer.batch_decode(
                [list(one.best_ids) for one in forced], skip_special_tokens=True
            )
            return [len(zlib.compress(text.encode("utf-8"))) for text in texts]

        sizes = run_batches(access, [len(record) for record in encoded], self.label, run)
        return torch.tensor(sizes, dtype=torch.float64).unsqueeze(1)
