"""The plug point of membership attacks: one number per record, higher = more likely a member."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import ClassVar, Self

import torch
from torch import Tensor

from audits.membership.measurements import Measurement, Scored
from audits.membership.view import AuditView
from common.errors import UserError


class Access(StrEnum):
    """What of a model an attacker sees, the least first."""

    text = "text only"
    top_k = "top-k log-probabilities"
    given_text = "log-probabilities of given text"
    distributions = "whole next-token distributions"
    weights = "weights"


class Attack(ABC):
    """Scores records from a view; a new attack is a subclass with a name and :meth:`record_scores`.

    Attributes:
        name: the attack's id in every table.
        title: what a page calls it.
        description: one sentence for a reader: what the score says of a record.
        access: what of the audited model the attacker sees; one who sees more may attack so too.
        shadows: whether the attacker trains models on similar records beside it.
        threat_model: what the attacker is assumed to have, in words.
        compares_records: whether a record's score depends on other records. The attack is then
            given them all, not a shard at a time, and must reduce the tokens of each to a few
            numbers as it reads them (``confidence.mean_log_likelihoods``).
        shares_tokens: whether its references must have the audited model's tokenizer; an audit
            refuses others before its first pass.
        params: options that tell two uses of the attack apart, ready for JSON.
        requires: what the view must hold; the audit measures the union over its attacks once.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str]
    access: ClassVar[Access]
    shadows: ClassVar[bool] = False
    threat_model: ClassVar[str]
    compares_records: ClassVar[bool] = False
    shares_tokens: ClassVar[bool] = False
    params: Mapping[str, float | int | str] = {}
    requires: frozenset[Measurement] = frozenset({Scored()})

    def tuned(self, views: Sequence[AuditView]) -> Self:
        """Returns the attack with what it learns about its references before it scores anything.

        Args:
            views: The scorable records of every population of the audit, members and non-members
                alike: the scores of one population must compare with those of another.
        """
        return self

    @property
    def ranks_as(self) -> "Attack | None":
        """The attack whose ranking this one has on all tokens that both read, whatever they are."""
        return None

    def defined(self, view: AuditView) -> Tensor:
        """Returns where the attack is defined, [B] bool; the others are counted as skipped."""
        return torch.ones(len(view.records), dtype=torch.bool)

    @abstractmethod
    def record_scores(self, view: AuditView) -> Tensor:
        """Computes the scores.

        Args:
            view: B records, all of them scorable and defined: a shard of those that are scored,
                unless the attack compares records.

        Returns:
            [B] float64, higher = more likely a member.
        """

    def draws(self, view: AuditView) -> Tensor | None:
        """Returns the scores under single random draws that all records share, [B, K], or None.

        Their mean over draws is the score. Where there are some, the audit reports their
        reliability and the AUROC's interval counts the variation between draws.

        Args:
            view: The records that :meth:`record_scores` is given.
        """
        return None

    def diagnostics(self, view: AuditView) -> dict[str, float]:
        """Returns figures by name that tell how far the scores can be trusted.

        Each becomes a row of the results table. NaN stands for what could not be measured.

        Args:
            view: The records of one population that :meth:`record_scores` is given.
        """
        return {}

    def score(self, view: AuditView) -> Tensor:
        """Returns one score per record, [B] float64, higher = more likely a member, never NaN.

        Args:
            view: B records, each with at least one scored token and defined for this attack.

        Raises:
            ValueError: if a record has no scored token (see ``AuditView.scorable_only``) or is not
                defined, or the attack returns anything but one float per record.
            UserError: naming the first record whose score is not a number, or what was not
                measured.
        """
        if view.skipped or not bool(self.defined(view).all()):
            raise ValueError(
                f"{self.name} is not defined on all records: pass view.scorable_only() and "
                "view.where(attack.defined(view))"
            )
        parts = [view] if self.compares_records else view.shards()
        none = torch.empty(0, dtype=torch.float64)
        scores = torch.cat([none, *(self._checked_scores(part) for part in parts)])
        undefined = scores.isnan().nonzero()
        if undefined.numel():
            record = view.records[int(undefined[0])]
            raise UserError(
                f"attack {self.name}: the score of record {record.id} ({record.origin}) is not a "
                "number: check the models' outputs for this record"
            )
        return scores

    def _checked_scores(self, view: AuditView) -> Tensor:
        scores = self.record_scores(view)
        if scores.shape != (len(view.records),) or not scores.is_floating_point():
            raise ValueError(f"{self.name} must return one score per record, got {scores.shape}")
        return scores.double()
