"""What an attack may look at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from callbacks.membership.token_statistics import TokenStatistics
from datamodules.records import InstructionRecord


@dataclass(frozen=True)
class AuditView:
    """Records with the statistics of the audited model and of reference models, all in one order.

    A record without a scored token is not scorable. The caller counts such records as skipped and
    hands :meth:`scorable_only` to the attacks, so that all attacks run on the same records.

    Attributes:
        records: the B records.
        statistics: the audited model's token statistics of exactly these records, in this order.
        references: token statistics of the same records under other models, by name.
    """

    records: Sequence[InstructionRecord]
    statistics: TokenStatistics
    references: Mapping[str, TokenStatistics] = field(default_factory=dict)

    def __post_init__(self) -> None:
        record_ids = tuple(record.id for record in self.records)
        for name, table in {"the audited model": self.statistics, **self.references}.items():
            if table.record_ids != record_ids:
                raise ValueError(f"the token statistics of {name} are not those of the records")

    @property
    def scorable(self) -> Tensor:
        """[B] bool: True where every model has at least one scored token."""
        scorable = self.statistics.lengths > 0
        for reference in self.references.values():
            scorable &= reference.lengths > 0
        return scorable

    @property
    def skipped(self) -> int:
        """Number of records that cannot be scored."""
        return int((~self.scorable).sum())

    def scorable_only(self) -> "AuditView":
        """Returns the view of the scorable records, in the same order."""
        kept = [
            record
            for record, scorable in zip(self.records, self.scorable.tolist(), strict=True)
            if scorable
        ]
        record_ids = [record.id for record in kept]
        return AuditView(
            kept,
            self.statistics.select(record_ids),
            {name: table.select(record_ids) for name, table in self.references.items()},
        )
