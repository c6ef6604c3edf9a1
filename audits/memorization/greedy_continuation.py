"""A response as the model writes it: greedy text from any true prefix, without generating it twice.

Where every greedy choice agrees with the true tokens, teacher forcing *is* greedy decoding, so one
pass gives the text up to and including the first token that differs. Only what follows that
token has to be generated.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from audits.scoring.greedy_pass import ForcedResponse
from datamodules.encoding import EncodedRecord


@dataclass(frozen=True)
class Request:
    """Greedy text that a metric reads of a record.

    Attributes:
        prefix_tokens: True response tokens that are given after the prompt.
        tokens: Tokens to be written after them; with the prefix at most the response's own.
    """

    prefix_tokens: int
    tokens: int


@dataclass(frozen=True)
class GreedyContinuation:
    """One record, the model's choice at each of its tokens, and what it writes by itself.

    Attributes:
        record: The record.
        forced: The model's choices given the true tokens, at the first n of its tokens; nothing is
            asked beyond them.
        ends: Ids that end a response.
        text: Turns token ids into text.
        written: What follows the first differing token, by its position; generated before it is
            read, as far as was requested.
    """

    record: EncodedRecord
    forced: ForcedResponse
    ends: Collection[int]
    text: Callable[[Sequence[int]], str]
    written: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def real_tokens(self) -> int:
        """Response tokens without eos."""
        return real_tokens(self.record)

    @property
    def matches(self) -> NDArray[np.bool_]:
        """Whether the greedy choice at each read token is the true one, [n]."""
        best = np.array(self.forced.best_ids, dtype=np.int64)
        return best == np.array(self.record.response_ids[: best.size], dtype=np.int64)

    def first_mismatch(self, prefix_tokens: int = 0) -> int:
        """Returns the first position from the prefix on where the choice differs, else n."""
        wrong = np.flatnonzero(~self.matches[prefix_tokens:])
        return prefix_tokens + int(wrong[0]) if wrong.size else len(self.forced.best_ids)

    def missing(self, request: Request) -> tuple[int, int]:
        """Returns where text must be generated for a request, and how many tokens.

        Returns:
            Position of the first token that differs, and the tokens that must follow it; 0 where
            teacher forcing tells everything.
        """
        place = self.first_mismatch(request.prefix_tokens)
        wanted = request.tokens - (place - request.prefix_tokens) - 1
        whole = place == len(self.forced.best_ids)
        if whole or wanted <= 0 or self.forced.best_ids[place] in self.ends:
            return place, 0
        return place, wanted

    def greedy(self, request: Request) -> tuple[int, ...]:
        """Returns what greedy decoding writes: at most so many tokens, fewer where eos ends them.

        Raises:
            LookupError: If the text has not been generated that far.
        """
        first, last = request.prefix_tokens, request.prefix_tokens + request.tokens
        place = self.first_mismatch(first)
        agreed = self.record.response_ids[first : min(place, last)]
        if place >= last or place == len(self.forced.best_ids):
            return agreed
        own = self.forced.best_ids[place]
        _, missing = self.missing(request)
        rest = self.written.get(place, ()) if missing else ()
        if len(rest) < missing and not (rest and rest[-1] in self.ends):
            raise LookupError(f"record {self.record.record_id}: its text was not requested so far")
        return (*agreed, own, *rest[:missing])


def real_tokens(record: EncodedRecord) -> int:
    """Returns the number of response tokens without an end token."""
    return len(record.words)
