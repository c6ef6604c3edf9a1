"""Copies of the response with some words left out."""

from collections.abc import Sequence
from dataclasses import dataclass

from audits.membership.texts.base import TextMaterial, TextVariant, with_responses
from audits.membership.texts.words import chosen_places, without_words, word_count
from common.keys import numpy_generator
from datamodules.batches import EncodedRecord
from datamodules.records import InstructionRecord


@dataclass(frozen=True)
class WordDropout(TextVariant):
    """One copy without round(share * n) of its n words: at least one goes and one stays.

    A response of one word stays as it is. The draw is a function of seed, record id and copy.

    Attributes:
        copy: Number of the copy.
        share: Share of words that are left out, in (0, 1].
    """

    copy: int
    share: float

    @property
    def label(self) -> str:
        """For instance "word dropout 0.15, copy 3"."""
        return f"word dropout {self.share:g}, copy {self.copy}"

    def encode(
        self, records: Sequence[InstructionRecord], material: TextMaterial
    ) -> list[EncodedRecord]:
        """Returns the tokens of each record's prompt and its copy."""
        texts = [self.text(record, material.seed) for record in records]
        return with_responses(records, texts, material.encoder)

    def text(self, record: InstructionRecord, seed: int) -> str:
        """Returns the copy's response."""
        generator = numpy_generator(seed, "word dropout", record.id, self.copy)
        words = word_count(record.response)
        dropped = chosen_places(generator, words, self.share, most=words - 1)
        return without_words(record.response, set(dropped.tolist()))
