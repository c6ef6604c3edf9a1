"""Counts of a split for the console."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from datamodules.batches import EncodedRecord
from datamodules.records import InstructionRecord


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """Counts of a split.

    Attributes:
        split: its name.
        records: records in it, duplicates included.
        tasks: records per task.
        audited: distinct records that audits read.
        prompts_cut: records whose prompt was cut; None where this run has not tokenised the split.
        responses_cut: the same of responses.
        boundaries_merged: records whose prompt and response share a token when tokenised together.
        special_tokens: records whose words spell a special token.
    """

    split: str
    records: int
    tasks: dict[str, int]
    audited: int
    prompts_cut: int | None
    responses_cut: int | None
    boundaries_merged: int | None
    special_tokens: int | None


def summarise(
    split: str,
    records: Sequence[InstructionRecord],
    audited: int,
    encoded: Sequence[EncodedRecord] | None,
) -> SplitSummary:
    """Counts a split; `encoded` is None where it has not been tokenised."""
    return SplitSummary(
        split=split,
        records=len(records),
        tasks=dict(sorted(Counter(record.task for record in records).items())),
        audited=audited,
        prompts_cut=None if encoded is None else sum(e.prompt_cut for e in encoded),
        responses_cut=None if encoded is None else sum(e.response_cut for e in encoded),
        boundaries_merged=None if encoded is None else sum(e.boundary_merged for e in encoded),
        special_tokens=None if encoded is None else sum(e.special_tokens > 0 for e in encoded),
    )
