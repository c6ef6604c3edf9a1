"""LiRA: is the confidence that of models which met the record, or of those which did not?

Carlini et al., "Membership Inference Attacks From First Principles", S&P 2022 (arXiv 2112.03570),
algorithm 1 and section IV-C, with p(x) the geometric mean of the tokens' probabilities. With fewer
than 16 references a variance per record is noise, so that one is pooled over records, as the paper
does for few shadow models.
"""

from collections.abc import Sequence
from copy import copy
from typing import Literal, Self

import torch
from torch import Tensor

from audits.membership.attacks.base import Access, Attack
from audits.membership.attacks.confidence import (
    logit_confidence,
    mean_log_likelihoods,
    met_matrix,
    require_references,
)
from audits.membership.measurements import AUDITED, Scored
from audits.membership.view import AuditView
from common.errors import UserError

FEWEST_FOR_OWN_VARIANCE = 16


class LiRA(Attack):
    """Gaussian likelihood ratio of the logit-scaled confidence.

    Offline, (phi - mean_out) / sd_out: how many standard deviations above the references that did
    not meet the record. Online, log N(phi; in) - log N(phi; out). A record without a reference on
    each side that is needed is not defined. Variances are per record from 16 references a side,
    pooled over records below; where no record has two on a side, 1, which changes no offline rank.
    Which of the three it is, and the pooled variance, are the same for members and non-members
    (:meth:`tuned`): of references such as a counterfactual the two sides have not equally many, and
    scores in two units differ in their spread without any leak.

    Args:
        references: names of the reference models (``--references.models.<name>``), of which some
            met the record and some did not: students of shadow teachers for a student.
        mode: offline (out-references only) or online (both).

    Raises:
        UserError: if an option is out of range.
    """

    name = "lira"
    title = "LiRA"
    description = "Likelihood ratio between models that met the record and models that did not."
    compares_records = True
    access = Access.given_text
    shadows = True
    threat_model = "sees log-probabilities of given text and trains models with and without it"

    def __init__(
        self, references: list[str], mode: Literal["offline", "online"] = "offline"
    ) -> None:
        if mode not in ("offline", "online"):
            raise UserError(f"attack lira: mode is {mode!r}: choose offline or online")
        self.references = require_references(self.name, references)
        self.mode = mode
        self._pooled: tuple[Tensor | None, ...] | None = None
        self.params = {"mode": self.mode, "references": ",".join(self.references)}
        self.requires = frozenset(Scored(model=model) for model in (AUDITED, *self.references))

    def tuned(self, views: Sequence[AuditView]) -> Self:
        """Returns the attack with the variances of the records of all populations together."""
        tuned = copy(self)
        tuned._pooled = self._variances([view.where(self.defined(view)) for view in views])
        return tuned

    def defined(self, view: AuditView) -> Tensor:
        """True where there is a reference on each side that is needed, [B]."""
        met = met_matrix(view, self.references)
        return ~met.all(dim=0) & (met.any(dim=0) | (self.mode == "offline"))

    def record_scores(self, view: AuditView) -> Tensor:
        """Standardised distance from the out-references, or the log-likelihood ratio, [B]."""
        met = met_matrix(view, self.references)
        confidence = self._confidence(view, [AUDITED, *self.references])
        own, others = confidence[0], confidence[1:]
        pooled = self._variances([view]) if self._pooled is None else self._pooled
        mean_out, variance_out = _moments(others, ~met, pooled[0])
        if self.mode == "offline":
            return (own - mean_out) / variance_out.sqrt()
        mean_in, variance_in = _moments(others, met, pooled[1])
        return _log_normal(own, mean_in, variance_in) - _log_normal(own, mean_out, variance_out)

    def _variances(self, views: Sequence[AuditView]) -> tuple[Tensor | None, ...]:
        """Returns the pooled variance of the references that did not meet a record and, online, of
        those that did; None where every record has its own.
        """
        others = torch.cat([self._confidence(view, self.references) for view in views], dim=1)
        met = torch.cat([met_matrix(view, self.references) for view in views], dim=1)
        sides = (~met,) if self.mode == "offline" else (~met, met)
        return tuple(_pooled_variance(others, side) for side in sides)

    @staticmethod
    def _confidence(view: AuditView, models: Sequence[str]) -> Tensor:
        return logit_confidence(mean_log_likelihoods(view, models))


def _pooled_variance(values: Tensor, use: Tensor) -> Tensor | None:
    """Variance of each column's used values around their mean, pooled over columns.

    Args:
        values: [K, B].
        use: [K, B] bool, at least one per column.

    Returns:
        A scalar, 1 where no column has two values; None where each has enough of its own.
    """
    freedom = use.sum(dim=0) - 1
    if bool((freedom + 1 >= FEWEST_FOR_OWN_VARIANCE).all()):
        return None
    if not bool((freedom > 0).any()):
        return values.new_ones(())
    _, squares = _mean_and_squares(values, use)
    return (squares.sum() / freedom.sum()).clamp(min=torch.finfo(torch.float64).tiny)


def _moments(values: Tensor, use: Tensor, pooled: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and variance of each column's used values.

    Args:
        values: [K, B].
        use: [K, B] bool, at least one per column.
        pooled: The variance of all columns; None where each has its own.

    Returns:
        Two [B]; see :class:`LiRA` for the variance.
    """
    mean, squares = _mean_and_squares(values, use)
    if pooled is not None:
        return mean, pooled.expand_as(mean)
    own = squares / (use.sum(dim=0) - 1)
    return mean, own.clamp(min=torch.finfo(torch.float64).tiny)


def _mean_and_squares(values: Tensor, use: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each column's used values and the sum of their squared distances from it, [B]."""
    weight = use.double()
    mean = (values * weight).sum(dim=0) / weight.sum(dim=0)
    return mean, ((values - mean).square() * weight).sum(dim=0)


def _log_normal(value: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return -0.5 * ((value - mean).square() / variance + variance.log())
