"""Copies of the response with some words left out."""

from dataclasses import dataclass

from audits.membership.texts.base import RandomCopy
from audits.membership.texts.words import chosen_places, without_words, word_count
from common.keys import numpy_generator
from datamodules.records import InstructionRecord


@dataclass(frozen=True)
class WordDropout(RandomCopy):
    """One copy without round(share * n) of its n words: at least one goes and one stays.

    A response of one word stays as it is.
    """

    @property
    def label(self) -> str:
        """For instance "word dropout 0.15, copy 3"."""
        return f"word dropout {self.share:g}, copy {self.copy}"

    def text(self, record: InstructionRecord, seed: int) -> str:
        """Returns the copy's response."""
        generator = numpy_generator(seed, "word dropout", record.id, self.copy)
        words = word_count(record.response)
        dropped = chosen_places(generator, words, self.share, most=words - 1)
        return without_words(record.response, set(dropped.tolist()))
