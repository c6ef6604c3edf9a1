"""Copies of the response with pairs of words swapped."""

from collections.abc import Sequence
from dataclasses import dataclass

from audits.membership.texts.base import TextMaterial, TextVariant, with_responses
from audits.membership.texts.words import join_words, split_words
from common.keys import numpy_generator
from datamodules.batches import EncodedRecord
from datamodules.records import InstructionRecord


@dataclass(frozen=True)
class WordSwap(TextVariant):
    """One copy in which 2 max(1, round(share * n / 2)) of its n words change places, in pairs.

    No word is in two pairs, so that no swap undoes another. A response of one word stays as it is.
    The draw is a function of seed, record id and copy.

    Attributes:
        copy: Number of the copy.
        share: Share of words that change places, in (0, 1].
    """

    copy: int
    share: float

    @property
    def label(self) -> str:
        """For instance "word swap 0.3, copy 3"."""
        return f"word swap {self.share:g}, copy {self.copy}"

    def encode(
        self, records: Sequence[InstructionRecord], material: TextMaterial
    ) -> list[EncodedRecord]:
        """Returns the tokens of each record's prompt and its copy."""
        texts = [self.text(record, material.seed) for record in records]
        return with_responses(records, texts, material.encoder)

    def text(self, record: InstructionRecord, seed: int) -> str:
        """Returns the copy's response."""
        generator = numpy_generator(seed, "word swap", record.id, self.copy)
        words, gaps = split_words(record.response)
        order = generator.permutation(len(words))
        pairs = min(max(1, round(self.share * len(words) / 2)), len(words) // 2)
        for first, second in zip(order[:pairs], order[pairs : 2 * pairs], strict=True):
            words[first], words[second] = words[second], words[first]
        return join_words(words, gaps)
