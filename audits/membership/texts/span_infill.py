"""Copies of the response with spans of words rewritten by a masked language model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from audits.membership.texts.base import TextMaterial, TextVariant
from audits.membership.texts.masked_lm import MaskedLM, load_masked_lm
from audits.membership.texts.words import chosen_places, join_words, split_words
from audits.scoring.encoded_file import Records
from common.keys import key, numpy_generator
from datamodules.batches import EncodedRecord
from datamodules.records import InstructionRecord


@dataclass(frozen=True)
class SpanInfill(TextVariant):
    """One copy in which round(share * spans) spans, at least one, hold other words.

    A response is cut into spans of so many words. Every token of a chosen span is masked and drawn
    from what the model makes of the rest, never the token that was. A word of which nothing
    readable is drawn stays. The draw is a function of seed, record id and copy.

    Attributes:
        copy: Number of the copy.
        model: Hub name or ``save_pretrained`` folder of a masked language model.
        share: Share of spans that are rewritten, in (0, 1].
        span_words: Words of a span.
    """

    rewrites: ClassVar[bool] = True

    copy: int
    model: str
    share: float
    span_words: int

    @property
    def label(self) -> str:
        """For instance "spans of 2 words by bert-base-cased 0.15, copy 3"."""
        return f"spans of {self.span_words} words by {self.model} {self.share:g}, copy {self.copy}"

    def encode(self, records: Records, material: TextMaterial) -> list[EncodedRecord]:
        """Returns the tokens of each record's prompt and its copy.

        Raises:
            UserError: If the model cannot be loaded.
        """
        masked_lm = load_masked_lm(self.model, material.device)
        texts = self.texts(records, material.seed, masked_lm)
        return material.encoder.encode_rewritten(records, texts)

    def texts(
        self, records: Sequence[InstructionRecord], seed: int, masked_lm: MaskedLM
    ) -> list[str]:
        """Returns the copies' responses."""
        tokens = masked_lm.tokens([record.response for record in records])
        tokens_of = [
            _tokens_of_words(record.response, self._words(record, seed), offsets)
            for record, (_, offsets) in zip(records, tokens, strict=True)
        ]
        blanks = [sorted({place for one in found.values() for place in one}) for found in tokens_of]
        keys = [key(seed, "span infill", record.id, self.copy) for record in records]
        filled = masked_lm.fill([ids for ids, _ in tokens], blanks, keys)
        return [
            _rewritten(record.response, found, ids, masked_lm)
            for record, found, ids in zip(records, tokens_of, filled, strict=True)
        ]

    def _words(self, record: InstructionRecord, seed: int) -> list[int]:
        """Places of the words to rewrite."""
        n_words = len(record.response.split())
        spans = -(-n_words // self.span_words)
        generator = numpy_generator(seed, "spans", record.id, self.copy)
        return [
            word
            for span in chosen_places(generator, spans, self.share, most=spans).tolist()
            for word in range(span * self.span_words, min((span + 1) * self.span_words, n_words))
        ]


def _tokens_of_words(
    text: str, words: Sequence[int], offsets: Sequence[tuple[int, int]]
) -> dict[int, list[int]]:
    """Returns the places of the tokens that touch each word."""
    bounds = _word_bounds(text)
    found: dict[int, list[int]] = {}
    for word in sorted(words):
        start, stop = bounds[word]
        found[word] = [
            place for place, (left, right) in enumerate(offsets) if left < stop and right > start
        ]
    return found


def _word_bounds(text: str) -> list[tuple[int, int]]:
    words, gaps = split_words(text)
    bounds, start = [], 0
    for word, gap in zip(words, gaps, strict=False):
        start += len(gap)
        bounds.append((start, start + len(word)))
        start += len(word)
    return bounds


def _rewritten(
    text: str, tokens_of: dict[int, list[int]], ids: Sequence[int], masked_lm: MaskedLM
) -> str:
    words, gaps = split_words(text)
    for word, places in tokens_of.items():
        drawn = masked_lm.text([ids[place] for place in places])
        # WordPiece marks a piece that continues a word, which begins one here.
        words[word] = drawn.removeprefix("##") or words[word]
    return join_words(words, gaps)
