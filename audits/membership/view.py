"""What an attack may look at."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from typing import TypeVar

import torch
from torch import Tensor

from audits.membership.frequencies import TokenFrequencies
from audits.membership.measurements import Measurement, Scored
from audits.membership.signals import RecordSignal
from audits.scoring.statistics_file import StatisticsFile
from audits.scoring.token_statistics import SHARD_RECORDS, TokenStatistics, shard_places
from common.errors import UserError
from datamodules.records import InstructionRecord

Table = TokenStatistics | StatisticsFile

Request = TypeVar("Request", bound=Measurement)
Numbers = TypeVar("Numbers")

_OWN_PASS = Scored()


@dataclass(frozen=True)
class AuditView:
    """Records with everything that was measured on them, all in one order.

    Token statistics may be on disk: a view of many records is then read by its :meth:`shards`.

    A record without a scored token is not scorable. The caller counts such records as skipped and
    hands :meth:`scorable_only` to the attacks, so that all attacks run on the same records.

    Attributes:
        records: The B records.
        passes: Token statistics by request; those of the audited records are of exactly these
            records, in this order.
        signals: [B, K] float64 by request.
        met: [B] bool by reference model: whether the training behind it met the record; a reference
            without an entry met none.
        frequencies: [V] float64 log-frequencies of the audited model's tokens by request.
        shard_records: Most records of a shard.
        scored_text: Returns the text of a record that is scored.
    """

    records: Sequence[InstructionRecord]
    passes: Mapping[Scored, Table]
    signals: Mapping[RecordSignal, Tensor] = field(default_factory=dict)
    met: Mapping[str, Tensor] = field(default_factory=dict)
    frequencies: Mapping[TokenFrequencies, Tensor] = field(default_factory=dict)
    shard_records: int = SHARD_RECORDS
    scored_text: Callable[[InstructionRecord], str] = attrgetter("response")

    def __post_init__(self) -> None:
        record_ids = tuple(record.id for record in self.records)
        for request, table in self._own_passes().items():
            if table.record_ids != record_ids:
                raise ValueError(f"token statistics {request.label!r} are not those of the records")
        labelled = {signal.label: values for signal, values in self.signals.items()}
        for label, values in (labelled | dict(self.met)).items():
            if len(values) != len(record_ids):
                raise ValueError(f"{label!r} is not of the records")

    @cached_property
    def statistics(self) -> TokenStatistics:
        """Token statistics of the records' own text under the audited model, in memory."""
        return self.tokens(_OWN_PASS)

    def tokens(self, request: Scored) -> TokenStatistics:
        """Returns the token statistics of a request, in memory.

        Raises:
            UserError: If they were not measured.
        """
        return self.table(request).read()

    def table(self, request: Scored) -> Table:
        """Returns the token statistics of a request, where they are.

        Raises:
            UserError: If they were not measured.
        """
        return _measured(self.passes, request)

    def signal(self, request: RecordSignal) -> Tensor:
        """Returns the numbers of a request, [B, K] float64; NaN where one is undefined.

        Raises:
            UserError: If they were not measured.
        """
        return _measured(self.signals, request)

    def met_by(self, reference: str) -> Tensor:
        """Returns whether the training behind a reference model met each record, [B] bool."""
        return self.met.get(reference, torch.zeros(len(self.records), dtype=torch.bool))

    def log_frequencies(self, request: TokenFrequencies) -> Tensor:
        """Returns the log-frequencies of a request, [V] float64, by token id.

        Raises:
            UserError: If they were not measured.
        """
        return _measured(self.frequencies, request)

    @property
    def scorable(self) -> Tensor:
        """[B] bool: True where every pass has at least one scored token."""
        scorable = torch.ones(len(self.records), dtype=torch.bool)
        for table in self._own_passes().values():
            scorable &= table.lengths > 0
        return scorable

    @property
    def skipped(self) -> int:
        """Number of records that cannot be scored."""
        return int((~self.scorable).sum())

    def scorable_only(self) -> "AuditView":
        """Returns the view of the scorable records, in the same order."""
        return self.where(self.scorable)

    def where(self, keep: Tensor) -> "AuditView":
        """Returns the view of some records, in the same order.

        Args:
            keep: [B] bool.
        """
        return self if bool(keep.all()) else self._take(keep.nonzero().flatten())

    def shards(self) -> Iterator["AuditView"]:
        """Yields views of the records in turn, of as many at a time as should be in memory."""
        for places in shard_places(len(self.records), self.shard_records):
            yield self._take(places)

    def _take(self, places: Tensor) -> "AuditView":
        own = self._own_passes()
        return replace(
            self,
            records=[self.records[place] for place in places.tolist()],
            passes={
                request: table.take(places) if request in own else table
                for request, table in self.passes.items()
            },
            signals={request: values[places] for request, values in self.signals.items()},
            met={reference: values[places] for reference, values in self.met.items()},
        )

    def _own_passes(self) -> dict[Scored, Table]:
        return {request: table for request, table in self.passes.items() if request.own_records}


def _measured(numbers: Mapping[Request, Numbers], request: Request) -> Numbers:
    if request not in numbers:
        there = ", ".join(repr(measured.label) for measured in numbers) or "nothing"
        raise UserError(f"{request.label!r} was not measured; there is {there}")
    return numbers[request]
