"""The plug point of membership attacks: one number per record, higher = more likely a member."""

from abc import ABC, abstractmethod
from enum import Enum
from typing import ClassVar

from torch import Tensor

from callbacks.membership.view import AuditView
from datamodules.errors import UserError


class Need(Enum):
    """What an attack reads; the audit runs the least that serves all of its attacks."""

    TOKEN_STATISTICS = "token statistics"
    TEXT = "text"
    REFERENCE = "reference"


class Attack(ABC):
    """Scores records from a view; a new attack is a subclass with a name and :meth:`record_scores`.

    Attributes:
        name: the attack's id in every table.
        needs: what the view must hold.
        threat_model: what the attacker is assumed to have.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Need]]
    threat_model: ClassVar[str]

    @property
    def params(self) -> dict[str, float | int | str]:
        """Options that tell two uses of the attack apart, ready for JSON."""
        return {}

    @abstractmethod
    def record_scores(self, view: AuditView) -> Tensor:
        """Computes the scores.

        Args:
            view: B records, all of them scorable.

        Returns:
            [B] float64, higher = more likely a member.
        """

    def score(self, view: AuditView) -> Tensor:
        """Returns one score per record, [B] float64, higher = more likely a member, never NaN.

        Args:
            view: B records, each with at least one scored token.

        Raises:
            ValueError: if a record has no scored token (see ``AuditView.scorable_only``), or the
                attack returns anything but one float per record.
            UserError: naming the first record whose score is not a number.
        """
        if view.skipped:
            raise ValueError(
                f"{view.skipped} records have no scored token: pass view.scorable_only()"
            )
        scores = self.record_scores(view)
        if scores.shape != (len(view.records),) or not scores.is_floating_point():
            raise ValueError(f"{self.name} must return one score per record, got {scores.shape}")
        scores = scores.double()
        undefined = scores.isnan().nonzero()
        if undefined.numel():
            record = view.records[int(undefined[0])]
            raise UserError(
                f"attack {self.name}: the score of record {record.id} ({record.origin}) is not a "
                "number: check the models' outputs for this record"
            )
        return scores
