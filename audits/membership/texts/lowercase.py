"""The record with its response in lower case."""

from collections.abc import Sequence
from dataclasses import dataclass

from audits.membership.texts.base import TextMaterial, TextVariant, with_responses
from datamodules.batches import EncodedRecord
from datamodules.records import InstructionRecord


@dataclass(frozen=True)
class Lowercased(TextVariant):
    """Lower case by Unicode's rules, after the record's own prompt."""

    @property
    def label(self) -> str:
        """The variant's name."""
        return "lowercase"

    def encode(
        self, records: Sequence[InstructionRecord], material: TextMaterial
    ) -> list[EncodedRecord]:
        """Returns the tokens of prompt and lowercased response."""
        return with_responses(
            records, [record.response.lower() for record in records], material.encoder
        )
