"""The record with its response in lower case."""

from dataclasses import dataclass

from audits.membership.texts.base import RewrittenResponse
from datamodules.records import InstructionRecord


@dataclass(frozen=True)
class Lowercased(RewrittenResponse):
    """Lower case by Unicode's rules, after the record's own prompt."""

    @property
    def label(self) -> str:
        """The variant's name."""
        return "lowercase"

    def text(self, record: InstructionRecord, seed: int) -> str:
        """Returns the lowercased response."""
        return record.response.lower()
