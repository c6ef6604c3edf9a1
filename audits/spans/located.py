"""Where a record's sensitive spans stand among its tokens."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from datamodules.encoding import EncodedRecord, RecordEncoder
from datamodules.records import InstructionRecord
from datamodules.sensitive import holds

_CUT_CHARACTER = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class LocatedSpan:
    """A span as tokens of its record's response.

    Attributes:
        record: Place of the record among those that were asked for.
        record_id: Its id.
        number: Place of the span among the record's own.
        type: What it is.
        text: What it says.
        first: Place, in the response, of the token that holds its first character.
        last: The place behind the token that holds its last character.
        ids: The tokens between them: the canonical ones, which the tokenizer gives the response.
    """

    record: int
    record_id: str
    number: int
    type: str
    text: str
    first: int
    last: int
    ids: tuple[int, ...]


def locate(
    encoder: RecordEncoder,
    records: Sequence[InstructionRecord],
    encoded: Sequence[EncodedRecord],
    told: bool = False,
) -> list[LocatedSpan]:
    """Returns the spans that an attacker could extract, where each stands first.

    Left out are spans that the prompt tells, which are asked with and not extracted, and those that
    the tokens no longer hold: of a response that was cut, or by a tokenizer that changes the text.

    Args:
        encoder: What made the tokens.
        records: The records.
        encoded: Their tokens, with the last turn as response.
        told: Whether to return those that the prompt tells as well.
    """
    found = []
    for place, (record, tokens) in enumerate(zip(records, encoded, strict=True)):
        if not record.sensitive:
            continue
        text = _Decoded(encoder, tokens.words)
        asked = f"{record.instruction}\n{record.context}"
        for number, span in enumerate(record.sensitive):
            at = text.whole.find(span.text)
            if at >= 0 and (told or not holds(asked, span.text)):
                first, last = text.tokens(at, at + len(span.text))
                what = (number, span.type, span.text)
                ids = tokens.response_ids[first:last]
                found.append(LocatedSpan(place, record.id, *what, first, last, ids))
    return found


class _Decoded:
    """A response's text, and which of its tokens hold which characters."""

    def __init__(self, encoder: RecordEncoder, ids: tuple[int, ...]) -> None:
        self._decode, self._ids = encoder.tokenizer.decode, ids
        self.whole = self._text(len(ids))

    def _text(self, count: int) -> str:
        """Returns the whole characters of the first tokens."""
        text = str(self._decode(list(self._ids[:count]), skip_special_tokens=True))
        return text.rstrip(_CUT_CHARACTER)

    def tokens(self, first: int, last: int) -> tuple[int, int]:
        """Returns the places of the tokens that hold characters `first` up to `last`."""
        counts = range(len(self._ids) + 1)

        def characters(count: int) -> int:
            return len(self._text(count))

        before = bisect_right(counts, first, key=characters) - 1
        # A character of several tokens: its first token adds no whole character.
        start = bisect_left(counts, characters(before), key=characters)
        return start, bisect_left(counts, last, key=characters)
