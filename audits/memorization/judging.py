"""One metric on one population: its number on every record, and the classes it is told by."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audits.memorization.greedy_continuation import GreedyContinuation
from audits.memorization.metrics import MemorizationMetric, Summary


@dataclass(frozen=True)
class Judged:
    """What one metric found on one population.

    Attributes:
        metric: The metric.
        population: Name of the population.
        record_ids: The judged records.
        tasks: Their tasks.
        clusters: Their near-duplicate clusters.
        lengths: [B] tokens that were judged.
        values: [B] float64, the number of each record.
        skipped: Records on which the metric is undefined.
    """

    metric: MemorizationMetric
    population: str
    record_ids: Sequence[str]
    tasks: Sequence[str]
    clusters: Sequence[Hashable]
    lengths: NDArray[np.int64]
    values: NDArray[np.float64]
    skipped: int

    @property
    def summaries(self) -> list[Summary]:
        """The figures of the population."""
        return self.metric.summaries(self.values)


@dataclass(frozen=True)
class Slice:
    """Records that a figure is told of: all, those of a task, or those of a class of lengths."""

    task: str | None = None
    lengths: tuple[int, int | None] | None = None

    @property
    def params(self) -> dict[str, str]:
        """The class of lengths in words, such as "25-49" or "50+"; empty for all lengths."""
        if self.lengths is None:
            return {}
        first, next_one = self.lengths
        return {"length": f"{first}+" if next_one is None else f"{first}-{next_one - 1}"}

    def rows(self, judged: Judged) -> NDArray[np.int64]:
        """Returns the places of the records."""
        keep = np.ones(len(judged.record_ids), dtype=bool)
        if self.task is not None:
            keep &= np.array([task == self.task for task in judged.tasks], dtype=bool)
        if self.lengths is not None:
            first, next_one = self.lengths
            keep &= judged.lengths >= first
            keep &= True if next_one is None else judged.lengths < next_one
        return np.flatnonzero(keep)


def judge(
    metric: MemorizationMetric,
    population: str,
    continuations: Sequence[GreedyContinuation],
    clusters: Sequence[Hashable],
    without_response: int = 0,
) -> Judged:
    """Returns what a metric finds.

    Args:
        metric: The metric.
        population: Name of the population.
        continuations: Its records that have a response.
        clusters: Their clusters, in the same order.
        without_response: Records that have none; they are skipped too.
    """
    lengths = [metric.judged_tokens(one.record) for one in continuations]
    values = [
        metric.record_value(one) if length else None
        for one, length in zip(continuations, lengths, strict=True)
    ]
    kept = [row for row, value in enumerate(values) if value is not None]
    return Judged(
        metric,
        population,
        [continuations[row].record.record_id for row in kept],
        [continuations[row].record.task for row in kept],
        [clusters[row] for row in kept],
        np.array([lengths[row] for row in kept], dtype=np.int64),
        np.array([values[row] for row in kept], dtype=np.float64),
        skipped=without_response + len(continuations) - len(kept),
    )


def slices(metric: MemorizationMetric, tasks: Sequence[str]) -> Iterator[Slice]:
    """Yields all records, each class of lengths, each task."""
    yield Slice()
    edges = metric.length_edges
    for first, next_one in zip(edges, [*edges[1:], None], strict=True):
        yield Slice(lengths=(first, next_one))
    for task in tasks:
        yield Slice(task=task)
