"""Tokens of records and batches of them: truncation, masks from lengths, padding, buckets."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from datamodules.encoding import EncodedRecord as EncodedRecord
from datamodules.encoding import EncodingOptions as EncodingOptions
from datamodules.encoding import RecordEncoder as RecordEncoder

FILLER_ID = ""
"""Record id of a row that only keeps a rank in step: none of its tokens is scored."""


@dataclass
class InstructionBatch:
    """Records as rows of tokens.

    Attributes:
        input_ids: [B, T] int64.
        attention_mask: [B, T] int64, 1 for the tokens of a record, 0 for padding.
        response_mask: [B, T] bool, True where `input_ids` is a scored target; the logits one
            position earlier predict it.
        record_ids: B ids; `FILLER_ID` for a row without a record.
        tasks: B tasks.
        extras: named [B, T] or [B] tensors that a response source hands to an objective.
    """

    input_ids: Tensor
    attention_mask: Tensor
    response_mask: Tensor
    record_ids: list[str]
    tasks: list[str]
    extras: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> "InstructionBatch":
        """The same batch with its tensors on a device."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            response_mask=self.response_mask.to(device),
            extras={name: value.to(device) for name, value in self.extras.items()},
        )

    def rows(self, chosen: Sequence[int]) -> "InstructionBatch":
        """Some rows, padded on the right to the longest of them alone."""
        mask = self.attention_mask[chosen]
        width = int(mask.sum(dim=1).max())
        return InstructionBatch(
            input_ids=self.input_ids[chosen, :width],
            attention_mask=mask[:, :width],
            response_mask=self.response_mask[chosen, :width],
            record_ids=[self.record_ids[row] for row in chosen],
            tasks=[self.tasks[row] for row in chosen],
            extras={
                name: value[chosen, :width] if value.dim() == 2 else value[chosen]
                for name, value in self.extras.items()
            },
        )

    def targets(self) -> Tensor:
        """[N] int64 ids of the scored tokens, record by record, position ascending."""
        return self.input_ids[self.response_mask]

    def record_index(self) -> Tensor:
        """[N] int64 row of each scored token, in the order of `targets`."""
        return self.response_mask.nonzero()[:, 0]

    def scored_rows(self) -> Tensor:
        """[B] bool, True where a row has a scored token."""
        return self.response_mask.any(dim=1)

    def token_extras(self) -> dict[str, Tensor]:
        """Extras as [N] tensors in the order of `targets`; a [B] extra counts for all its row."""
        if not self.extras:
            return {}
        index = self.record_index()
        return {
            name: value[self.response_mask] if value.dim() == 2 else value[index]
            for name, value in self.extras.items()
        }


def collate(
    encoded: Sequence[EncodedRecord], pad_id: int, padding_side: Literal["right", "left"] = "right"
) -> InstructionBatch:
    """Pads records to the longest; every mask comes from lengths, never from token ids.

    Args:
        encoded: B records.
        pad_id: id written where there is no token; may be a real token's id, such as eos.
        padding_side: where the padding goes.

    Returns:
        Batch with T the longest record's prompt and response together.
    """
    lengths = [len(record) for record in encoded]
    width = max(lengths)
    input_ids = torch.full((len(encoded), width), pad_id, dtype=torch.int64)
    attention_mask = torch.zeros(len(encoded), width, dtype=torch.int64)
    response_mask = torch.zeros(len(encoded), width, dtype=torch.bool)
    for row, (record, length) in enumerate(zip(encoded, lengths, strict=True)):
        start = width - length if padding_side == "left" else 0
        end = start + length
        input_ids[row, start:end] = torch.tensor(record.prompt_ids + record.response_ids)
        attention_mask[row, start:end] = 1
        scored = True if record.scored is None else torch.tensor(record.scored)
        response_mask[row, end - len(record.response_ids) : end] = scored
    return InstructionBatch(
        input_ids=input_ids,
        attention_mask=attention_mask,
        response_mask=response_mask,
        record_ids=[record.record_id for record in encoded],
        tasks=[record.task for record in encoded],
    )


def length_buckets(
    lengths: Sequence[int], batch_size: int, max_tokens: int | None
) -> list[list[int]]:
    """Batches of records of similar length, longest first, so that memory peaks in the first batch.

    Args:
        lengths: tokens of each record.
        batch_size: most records in a batch.
        max_tokens: most tokens in a batch with its padding; a longer record gets a batch of its
            own.

    Returns:
        Indices into `lengths`, each once; equal lengths keep their order.

    >>> length_buckets([3, 9, 4, 8], batch_size=2, max_tokens=None)
    [[1, 3], [2, 0]]
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, found {batch_size}")
    buckets: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        bucket = buckets[-1] if buckets else []
        fits = 0 < len(bucket) < batch_size
        if fits and max_tokens is not None:
            fits = (len(bucket) + 1) * lengths[bucket[0]] <= max_tokens
        if fits:
            bucket.append(index)
        else:
            buckets.append([index])
    return buckets
