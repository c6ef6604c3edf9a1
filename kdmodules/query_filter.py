"""Public prompts that a student leaves out, because its teacher stands out on them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from common.errors import UserError
from datamodules.batches import (
    FILLER_ID,
    EncodedRecord,
    InstructionBatch,
    RecordEncoder,
    collate,
    length_buckets,
)
from kdmodules.models.causal_lm import CausalLM, model_device
from kdmodules.models.modes import evaluation_mode
from kdmodules.scoring import token_statistics

_BATCH_RECORDS, _BATCH_TOKENS = 64, 8192


@dataclass(frozen=True)
class QueryFilter:
    """Leaves out the public records on whose own responses the teacher is most extreme.

    After Shejwalkar and Houmansadr (2021, arXiv 1906.06589), who distil on the reference records
    that their teacher is surest of, since what it is unsure of tells most of its own records; the
    likelihood ratio against a model that never met them is the reference attack's score. Nothing is
    certified.

    The model beside the teacher is the student as it starts, which must not have met private
    records. Several teachers count by their mean.

    Attributes:
        measure: entropy, the mean over a response's tokens of the teacher's entropy; or
            likelihood_ratio, the mean of log p of the teacher less that of the student.
        share: Of the records, left out.
        extreme: Whether the highest or the lowest are left out.

    Raises:
        UserError: An option is out of range.
    """

    measure: Literal["entropy", "likelihood_ratio"] = "entropy"
    share: float = 0.1
    extreme: Literal["highest", "lowest"] = "highest"

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise UserError(f"model.query_filter.share is {self.share}: give one above 0, below 1")

    def left_out(
        self,
        records: Sequence[EncodedRecord],
        teachers: Sequence[CausalLM],
        student: CausalLM,
        encoder: RecordEncoder,
    ) -> frozenset[str]:
        """Returns the ids of the records that are left out.

        Args:
            records: All that the student is served.
            teachers: Its teachers.
            student: As it starts.
            encoder: Knows the token that pads.

        Raises:
            UserError: The share is none of so few records, or the measure is the same of all.
        """
        sign = 1.0 if self.extreme == "highest" else -1.0
        values = self.values(records, teachers, student, encoder)
        count = round(self.share * len(values))
        if not 0 < count < len(values):
            raise UserError(
                f"model.query_filter.share {self.share} of {len(values)} public records leaves "
                f"{count} of them out: give another share, or leave it out"
            )
        if min(values.values()) == max(values.values()):
            raise UserError(
                f"model.query_filter.measure {self.measure} is the same of all public records: "
                "the student starts as its teacher; take entropy, or another start"
            )
        ranked = sorted(values, key=lambda name: (-sign * values[name], name))
        return frozenset(ranked[:count])

    def values(
        self,
        records: Sequence[EncodedRecord],
        teachers: Sequence[CausalLM],
        student: CausalLM,
        encoder: RecordEncoder,
    ) -> dict[str, float]:
        """Returns the measure of each record in nats; arguments are those of `left_out`."""
        found: dict[str, float] = {}
        lengths = [len(record) for record in records]
        for bucket in length_buckets(lengths, _BATCH_RECORDS, _BATCH_TOKENS):
            listed = [records[index] for index in bucket]
            batch = collate(listed, encoder.pad_id).to(model_device(student))
            taught = torch.stack([self._of_model(one, batch) for one in teachers]).mean(dim=0)
            if self.measure == "likelihood_ratio":
                taught = taught - self._of_model(student, batch)
            rows = batch.record_index()
            totals = torch.zeros(len(listed), dtype=torch.float64, device=rows.device)
            sums = totals.index_add(0, rows, taught)
            means = sums / torch.bincount(rows, minlength=len(listed)).clamp(min=1)
            found |= dict(zip(batch.record_ids, means.tolist(), strict=True))
        return found

    @torch.no_grad()
    def _of_model(self, model: CausalLM, batch: InstructionBatch) -> Tensor:
        """[N] float64 figures of the scored tokens under one model."""

        def compute(lm: CausalLM) -> Tensor:
            scores = token_statistics(lm.hidden(batch), lm.head, batch.targets())
            return scores.entropy if self.measure == "entropy" else scores.logp

        with evaluation_mode(model):
            return model(compute).double()


def without_records(batch: InstructionBatch, left_out: frozenset[str]) -> InstructionBatch:
    """Returns the batch with some records as fillers: no text is written for them, none is scored.

    Args:
        batch: B records.
        left_out: Their ids.
    """
    kept = torch.tensor([name not in left_out for name in batch.record_ids])
    names = [
        name if stays else FILLER_ID for name, stays in zip(batch.record_ids, kept, strict=True)
    ]
    mask = batch.response_mask & kept.to(batch.response_mask.device).unsqueeze(1)
    return replace(batch, response_mask=mask, record_ids=names)
