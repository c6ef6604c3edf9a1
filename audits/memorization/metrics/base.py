"""The plug point of memorization metrics: one number per record, and what is told of many."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from audits.memorization.greedy_continuation import GreedyContinuation, Request
from audits.statistics.means import UtilityEstimate, share_interval
from datamodules.encoding import EncodedRecord
from kdmodules.sampling.sampler import SamplingSettings


@dataclass(frozen=True)
class Summary:
    """A figure of a population: the mean of one number in [0, 1] per record.

    Attributes:
        metric: Its name in the results table.
        values: [B] float64 in [0, 1].
        params: What tells it apart from other figures of the same name.
        detailed: Whether it is also told by task and by length, and drawn over the run.
    """

    metric: str
    values: NDArray[np.float64]
    params: dict[str, float | int | str] = field(default_factory=dict)
    detailed: bool = True

    def mean(self, rows: NDArray[np.int64], clusters: Sequence[Hashable]) -> UtilityEstimate | None:
        """Returns the mean over some records, with its interval; None over no record.

        Args:
            rows: Which of the B records count.
            clusters: Each record's cluster, [B].
        """
        if not rows.size:
            return None
        return share_interval(self.values[rows], [clusters[row] for row in rows])


class MemorizationMetric(ABC):
    """Judges continuations; a new metric is a subclass with a name and :meth:`record_value`.

    Attributes:
        name: the metric's id in every table.
        params: options that tell two uses of the metric apart, ready for JSON.
        scheme: the way of sampling under which it reads probabilities; None if it reads none.
        length_edges: lowest number of judged tokens of each class of lengths, ascending.
    """

    name: ClassVar[str]
    params: Mapping[str, float | int | str] = {}
    scheme: SamplingSettings | None = None
    length_edges: tuple[int, ...]

    @abstractmethod
    def judged_tokens(self, record: EncodedRecord) -> int:
        """Returns how many tokens of a record are judged; 0 where the metric is undefined."""

    def read_tokens(self, record: EncodedRecord) -> int:
        """Returns how many of a record's tokens must be read, counted from the first."""
        return self.judged_tokens(record)

    def requests(self, record: EncodedRecord) -> Sequence[Request]:
        """Returns the greedy text that it reads of a record; none if choices alone will do."""
        return ()

    @abstractmethod
    def record_value(self, continuation: GreedyContinuation) -> float | None:
        """Returns the number of one record with judged tokens; None where it is undefined."""

    @abstractmethod
    def summaries(self, values: NDArray[np.float64]) -> list[Summary]:
        """Returns the figures of a population.

        Args:
            values: [B] what :meth:`record_value` gave.
        """
