"""Which records lie verbatim, as spans of tokens, in the text that a student is trained on."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from audits.context import AuditContext, Measurements
from audits.membership.measurements import NEVER
from audits.rows import ResultRow, bounds
from audits.statistics.means import UtilityEstimate, gap, share_interval

Met = set[tuple[str, str]]
"""Population and id of every record that was met."""


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


def span_index(context: AuditContext, tokens: int) -> SpanIndex:
    """Returns an index of the responses of private, held-out and never-seen records."""
    responses = {}
    for name in _populations(context):
        encoded = context.model.encoder.encode_last(context.answered(name))
        responses[name] = {record.record_id: record.response_ids for record in encoded}
    return SpanIndex(responses, tokens)


def audit_transfer(
    context: AuditContext, index: SpanIndex, met: Collection[tuple[str, str]]
) -> Measurements:
    """Returns the share of each population, and the gaps between private and the others.

    Args:
        context: The records.
        index: Their spans (`span_index`).
        met: Population and id of every record that was met on any rank.
    """
    measured = Measurements()
    members, *others = _populations(context)
    shares = {name: _share(context, index, met, name) for name in (members, *others)}
    for name, (share, n) in shares.items():
        inside = name == members
        row = ResultRow(
            population=name,
            name="transfer_overlap",
            params={"tokens": index.tokens},
            metric="transfer_overlap",
            n_members=n if inside else None,
            n_nonmembers=None if inside else n,
            skipped=len(context.population(name)) - n,
            **bounds(share),
        )
        measured.results.append(row)
        if row.value is not None:
            measured.curves[f"transfer/{name}/overlap"] = row.value
    for name in others:
        (ours, n), (theirs, m) = shares[members], shares[name]
        both = None if ours is None or theirs is None else gap(ours, theirs)
        measured.results.append(
            ResultRow(
                population=members,
                name="transfer_overlap",
                params={"tokens": index.tokens, "against": name},
                metric="transfer_overlap_gap",
                n_members=n,
                n_nonmembers=m,
                **bounds(both),
            )
        )
    return measured


def _populations(context: AuditContext) -> list[str]:
    members = context.data.member_population
    return list(dict.fromkeys([members, context.data.opposed_to(members), NEVER]))


def _share(
    context: AuditContext, index: SpanIndex, met: Collection[tuple[str, str]], name: str
) -> tuple[UtilityEstimate | None, int]:
    """Returns the share of a population's long enough records, and their number."""
    long_enough = set(index.long_enough(name))
    records = [record for record in context.population(name) if record.id in long_enough]
    if not records:
        return None, 0
    values = np.array([(name, record.id) in met for record in records], dtype=np.float64)
    return share_interval(values, context.data.clusters(records)), len(records)
