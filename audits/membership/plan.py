"""The least work that serves all attacks of an audit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from audits.membership.frequencies import TokenFrequencies
from audits.membership.measurements import AUDITED, NEVER, Measurement, OutsideTop, Scored
from audits.membership.signals import RecordSignal


class Reader(Protocol):
    """What reads measurements: an attack, or the worlds that judge single records."""

    @property
    def name(self) -> str:
        """Its id."""

    @property
    def requires(self) -> frozenset[Measurement]:
        """What it reads."""


@dataclass(frozen=True)
class PlannedMeasurement:
    """One measurement and the attacks that read it."""

    request: Measurement
    attacks: tuple[str, ...]


@dataclass(frozen=True)
class AuditPlan:
    """What an audit measures, each thing once, the audited model first.

    Attributes:
        measurements: All measurements, in the order in which they run.
    """

    measurements: tuple[PlannedMeasurement, ...]

    @staticmethod
    def of(attacks: Sequence[Reader]) -> "AuditPlan":
        """Returns the union of what attacks, and whatever else reads, require."""
        readers: dict[Measurement, list[str]] = {Scored(): []}
        for attack in attacks:
            for request in attack.requires:
                readers.setdefault(request, []).append(attack.name)
        ordered = sorted(readers, key=_place)
        return AuditPlan(
            tuple(
                PlannedMeasurement(request, tuple(dict.fromkeys(readers[request])))
                for request in ordered
            )
        )

    def scored(self, model: str, records: str = AUDITED) -> list[Scored]:
        """Returns the passes of one model over one set of records."""
        return [one for one in self._passes if (one.model, one.records) == (model, records)]

    @property
    def _passes(self) -> list[Scored]:
        return [one.request for one in self.measurements if isinstance(one.request, Scored)]

    @property
    def models(self) -> list[str]:
        """The models that are measured, the audited one first."""
        return list(dict.fromkeys([AUDITED, *(one.request.model for one in self.measurements)]))

    @property
    def references(self) -> list[str]:
        """The models that are measured beside the audited one."""
        return [model for model in self.models if model != AUDITED]

    @property
    def asides(self) -> list[str]:
        """The sets of records that are scored beside the audited ones."""
        found = dict.fromkeys(one.records for one in self._passes)
        return [records for records in found if records != AUDITED]

    @property
    def pool_uses(self) -> frozenset[str]:
        """The uses of pool records that attacks read, which no audit may judge then."""
        texts = [use for request in self._passes for use in request.text.pool_uses]
        return frozenset([*texts, *(use for use in self.asides if use != NEVER)])

    def signals(self, model: str) -> list[RecordSignal]:
        """Returns the signals of one model."""
        found = (one.request for one in self.measurements)
        return [one for one in found if isinstance(one, RecordSignal) and one.model == model]

    @property
    def outside_top(self) -> bool:
        """Whether the audited model's own pass says what is left outside the likeliest tokens."""
        return any(one.request == OutsideTop() for one in self.measurements)

    @property
    def frequencies(self) -> list[TokenFrequencies]:
        """The corpora whose tokens are counted."""
        return [
            one.request for one in self.measurements if isinstance(one.request, TokenFrequencies)
        ]

    @property
    def passes(self) -> float:
        """Cost in forward passes over the audited records."""
        return sum(one.request.passes for one in self.measurements)

    def lines(self) -> list[tuple[str, str, str]]:
        """Returns (what, cost in passes, the attacks that read it) per measurement."""
        return [
            (one.request.label, f"{one.request.passes:g}", ", ".join(one.attacks))
            for one in self.measurements
        ]


def _place(request: Measurement) -> tuple[bool, str, bool, str]:
    scored = isinstance(request, Scored)
    model = request.model
    return (model != AUDITED, model, not scored, "" if request == Scored() else repr(request))
