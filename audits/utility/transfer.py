"""Which records lie verbatim, as spans of tokens, in the text that a student is trained on."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray


class SpanIndex:
    """Finds records of which a text holds a span of so many tokens, wherever it lies.

    Spans are looked up by a linear hash and compared token by token, so a find is never a chance.

    Args:
        populations: Token ids of each record's response, by record and population.
        tokens: Length of a span.
    """

    def __init__(
        self, populations: Mapping[str, Mapping[str, Sequence[int]]], tokens: int = 20
    ) -> None:
        self.tokens = tokens
        self._multipliers = np.random.default_rng(0).integers(
            2**63, size=tokens, dtype=np.uint64
        ) * np.uint64(2) + np.uint64(1)
        self._texts = [
            (population, record, np.asarray(ids, dtype=np.int64))
            for population, records in populations.items()
            for record, ids in records.items()
        ]
        hashes = [self._hashes(text) for _, _, text in self._texts]
        sizes = [len(own) for own in hashes]
        every = np.concatenate([np.zeros(0, dtype=np.uint64), *hashes])
        order = np.argsort(every, kind="stable")
        self._known = every[order]
        self._numbers = np.repeat(np.arange(len(sizes)), sizes)[order]
        self._starts = np.concatenate([np.zeros(0, dtype=np.int64), *map(np.arange, sizes)])[order]

    def records_in(self, texts: Iterable[Sequence[int]]) -> set[tuple[str, str]]:
        """Returns (population, record) of every record that shares a span with one of the texts."""
        found: set[tuple[str, str]] = set()
        for ids in texts:
            text = np.asarray(ids, dtype=np.int64)
            values = self._hashes(text)
            first, last = (np.searchsorted(self._known, values, side) for side in ("left", "right"))
            for start in np.flatnonzero(first < last).tolist():
                span = text[start : start + self.tokens]
                found |= self._records_with(span, range(first[start], last[start]))
        return found

    def _records_with(self, span: NDArray[np.int64], places: Iterable[int]) -> set[tuple[str, str]]:
        """Returns the records that hold a span at one of the places with its hash."""
        found = set()
        for place in places:
            population, record, text = self._texts[self._numbers[place]]
            start = self._starts[place]
            if np.array_equal(text[start : start + self.tokens], span):
                found.add((population, record))
        return found

    def long_enough(self, population: str) -> list[str]:
        """Returns the records of a population that have a span at all."""
        return [
            record
            for name, record, text in self._texts
            if name == population and len(text) >= self.tokens
        ]

    def _hashes(self, text: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Returns a hash of every span, [n - tokens + 1]; empty for a shorter text."""
        if len(text) < self.tokens:
            return np.zeros(0, dtype=np.uint64)
        spans = sliding_window_view(text.astype(np.uint64), self.tokens)
        return (spans * self._multipliers).sum(axis=1, dtype=np.uint64)
