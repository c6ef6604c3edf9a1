"""What a model's training guarantees about its private records, as a file of its run folder."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum, auto
from pathlib import Path
from typing import Any

from common.atomic_file import replacing
from common.errors import UserError
from common.own_files import read_json
from common.run_folders import folders_behind

FILE_NAME = "guarantee.json"

_WITHOUT = "train the run that wrote it again, or remove the file to go without a guarantee"


class Certificate(StrEnum):
    """How far a statement goes.

    Attributes:
        dp: A worst case for every attack in a stated scope.
        average: On average over teachers; estimated, with an interval.
        instance: Of these weights only.
        none: Nothing is guaranteed; what is known was measured.
    """

    dp = auto()
    average = auto()
    instance = auto()
    none = auto()


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """What is guaranteed of all that a training released, and what is not.

    Attributes:
        certificate: How far it goes.
        defence: Name of the defence, as its fragment of ``configs/defences`` has it.
        epsilon: In nats; None where none is finite or the certificate has none.
        delta: At which epsilon holds.
        mu: Of the Gaussian mechanism that is as easy to attack.
        unit: What it counts: ``cluster`` of near-duplicates or ``subject``.
        neighbours: Data sets that it holds alike.
        rate: Chance of a unit to be drawn in a step, where sums were noised.
        noise: Standard deviation of their noise in clipping norms.
        steps: Steps that were taken.
        covers: What it covers.
        does_not_cover: What it does not.
        voided_by: Why it does not hold for this run, if so.
    """

    certificate: Certificate
    defence: str
    epsilon: float | None = None
    delta: float | None = None
    mu: float | None = None
    unit: str = "cluster"
    neighbours: str = "add or remove"
    rate: float | None = None
    noise: float | None = None
    steps: int | None = None
    covers: tuple[str, ...] = ()
    does_not_cover: tuple[str, ...] = ()
    voided_by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.unit not in ("cluster", "subject"):
            raise ValueError(f"a guarantee counts clusters or subjects, found {self.unit!r}")
        for name in ("epsilon", "delta", "mu", "rate", "noise"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{name} is finite and at least 0, or None; found {value}")

    @property
    def holds(self) -> bool:
        """Whether differential privacy holds for this run."""
        return self.certificate is Certificate.dp and not self.voided_by

    @property
    def budget(self) -> str:
        """Epsilon and delta in words, rounded up, with the unit; empty without the certificate
        ``dp``.

        >>> Guarantee(certificate=Certificate.dp, defence="d", epsilon=8.0, delta=5e-4).budget
        'epsilon 8 at delta 0.0005 for each cluster'
        >>> Guarantee(certificate=Certificate.dp, defence="d", epsilon=10.02, delta=1.02e-5).budget
        'epsilon 10.1 at delta 1.1e-05 for each cluster'
        """
        if self.certificate is not Certificate.dp:
            return ""
        epsilon = (
            "no finite epsilon" if self.epsilon is None else f"epsilon {_up(self.epsilon, 3):.3g}"
        )
        at = "" if self.delta is None else f" at delta {_up(self.delta, 2):.2g}"
        return f"{epsilon}{at} for each {self.unit}"

    @property
    def short(self) -> str:
        """What holds, or in the same line as epsilon what voids it."""
        found = f"{self.budget} ({self.defence})" if self.budget else self.defence
        if self.voided_by:
            return f"no guarantee ({', '.join(self.voided_by)}): {found}"
        if self.certificate is Certificate.none:
            return f"no guarantee: {found}, measured only"
        return found if self.certificate is Certificate.dp else f"{found}; {self.certificate} only"

    @property
    def line(self) -> str:
        """The same, and what it does not cover."""
        scope = f"; does not cover {', '.join(self.does_not_cover)}" if self.does_not_cover else ""
        return f"{self.short}{scope}"

    @classmethod
    def of(cls, values: Mapping[str, object]) -> "Guarantee":
        """Makes a guarantee of plain values, as JSON has them.

        Raises:
            KeyError: There is no certificate.
            TypeError: There is a name that is no attribute.
            ValueError: A value is out of range.
        """
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**{**known, "certificate": Certificate(known["certificate"])})

    @property
    def values(self) -> dict[str, object]:
        """Its attributes as plain values, those left out that say nothing."""
        told = {name: v for name, v in asdict(self).items() if v is not None and v != ()}
        return {
            name: list(value)
            if isinstance(value, tuple)
            else str(value)
            if name == "certificate"
            else value
            for name, value in told.items()
        }

    def voided(self, *reasons: str) -> "Guarantee":
        """Returns the same for a run for which it does not hold."""
        return replace(self, voided_by=tuple(dict.fromkeys(self.voided_by + reasons)))


def _up(value: float, digits: int) -> float:
    """Returns a number with so many significant digits that is not below a number."""
    exact = Decimal(repr(float(value)))
    place = Decimal(1).scaleb(exact.adjusted() - digits + 1)
    return float(exact.quantize(place, rounding=ROUND_CEILING)) if value else 0.0


def write(folder: Path, guarantee: Guarantee) -> None:
    """Writes a run's guarantee; for the first rank alone."""
    with replacing(folder / FILE_NAME) as file:
        file.write(json.dumps(asdict(guarantee), indent=1, allow_nan=False).encode("utf-8"))


def read(folder: Path) -> Guarantee | None:
    """Reads the guarantee of a run folder, or of an exported model; None where there is none.

    Raises:
        UserError: The file is cut short, or none of ours.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    content = read_json(path, _WITHOUT)
    try:
        return Guarantee.of(content)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no guarantee of ours: {_WITHOUT}") from error


def of_source(source: str) -> Guarantee | None:
    """Returns the guarantee of a model that is named by a folder or checkpoint of its run.

    Args:
        source: What a student names as its teacher; a hub's name has no guarantee.
    """
    found = map(read, folders_behind(source))
    return next((one for one in found if one is not None), None)


def of_teachers(sources: Sequence[str]) -> Guarantee | None:
    """Returns what the guarantees of a student's teachers leave to the student.

    A student reads private records through its teachers alone, so that what holds of one teacher
    holds of it. What holds of each of several holds of no student of all: it is voided.
    """
    found = [one for one in map(of_source, sources) if one is not None]
    if not found:
        return None
    return found[0] if len(sources) == 1 else found[0].voided("it has several teachers")
