"""What attacks read, as values: equal requests of several attacks are measured once."""

import hashlib
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from audits.membership.texts.base import Original, TextVariant

AUDITED = "audited"
"""Stands for the model under audit, and for the records under audit."""

NEVER = "never"
"""Stands for the records that neither the audited model nor any reference trained on."""


@dataclass(frozen=True)
class Measurement(ABC):
    """Something that is measured once per model and record set, whichever attacks read it.

    A subclass is a frozen dataclass whose fields are all that decides the numbers, so that equal
    requests are equal values.

    Attributes:
        file_format: Ending of the file that holds the numbers.
    """

    file_format: ClassVar[str] = "parquet"

    @property
    @abstractmethod
    def label(self) -> str:
        """What is measured, for the plan and for progress bars."""

    @property
    def model(self) -> str:
        """Whose it is: ``audited``, or the name of a reference model."""
        return AUDITED

    @property
    def passes(self) -> float:
        """Cost in forward passes over the audited records; one, where a subclass says no other."""
        return 1.0

    @property
    def file_name(self) -> str:
        """Name of the file that holds the numbers: readable, and distinct where requests differ."""
        readable = re.sub(r"[^a-z0-9]+", "-", self.label.lower()).strip("-")[:60]
        digest = hashlib.sha256(repr(self).encode()).hexdigest()[:8]
        return f"{readable}-{digest}.{self.file_format}"


@dataclass(frozen=True)
class OutsideTop(Measurement):
    """What is left outside the likeliest tokens: columns of the audited model's own pass."""

    @property
    def label(self) -> str:
        """The columns' name."""
        return "audited: probability outside the likeliest tokens"

    @property
    def passes(self) -> float:
        """None of its own."""
        return 0.0


@dataclass(frozen=True)
class Scored(Measurement):
    """Token statistics of responses after their prompts: one forward pass.

    Attributes:
        model: ``audited``, or the name of a reference model.
        text: Which text of a record is scored.
        records: ``audited`` for the records under audit, or others that are scored beside them:
            ``never``, or a use of held-out records that no audit judges (``population``,
            ``calibration``).
    """

    file_format: ClassVar[str] = "tokens"

    model: str = AUDITED
    text: TextVariant = field(default_factory=Original)
    records: str = AUDITED

    @property
    def own_records(self) -> bool:
        """Whether it is about the records under audit, not about others beside them."""
        return self.records == AUDITED

    @property
    def label(self) -> str:
        """For instance "base: original text, population records"."""
        aside = "" if self.own_records else f", {self.records} records"
        return f"{self.model}: {self.text.label}{aside}"
