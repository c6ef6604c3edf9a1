"""Copies of the response with pairs of words swapped."""

from dataclasses import dataclass

from audits.membership.texts.base import RandomCopy
from audits.membership.texts.words import join_words, split_words
from common.keys import numpy_generator
from datamodules.records import InstructionRecord


@dataclass(frozen=True)
class WordSwap(RandomCopy):
    """One copy in which 2 max(1, round(share * n / 2)) of its n words change places, in pairs.

    No word is in two pairs, so that no swap undoes another. A response of one word stays as it is.

    """

    @property
    def label(self) -> str:
        """For instance "word swap 0.3, copy 3"."""
        return f"word swap {self.share:g}, copy {self.copy}"

    def text(self, record: InstructionRecord, seed: int) -> str:
        """Returns the copy's response."""
        generator = numpy_generator(seed, "word swap", record.id, self.copy)
        words, gaps = split_words(record.response)
        order = generator.permutation(len(words))
        pairs = min(max(1, round(self.share * len(words) / 2)), len(words) // 2)
        for first, second in zip(order[:pairs], order[pairs : 2 * pairs], strict=True):
            words[first], words[second] = words[second], words[first]
        return join_words(words, gaps)
