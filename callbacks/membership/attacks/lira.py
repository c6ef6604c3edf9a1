"""LiRA: is the confidence that of models which met the record, or of those which did not?

Carlini et al., "Membership Inference Attacks From First Principles", S&P 2022 (arXiv 2112.03570),
algorithm 1 and section IV-C, with p(x) the geometric mean of the tokens' probabilities. With fewer
than 16 references a variance per record is noise, so that one is pooled over records, as the paper
does for few shadow models.
"""

from typing import Literal

import torch
from torch import Tensor

from callbacks.membership.attacks.base import Attack
from callbacks.membership.attacks.confidence import (
    logit_confidence,
    mean_log_likelihoods,
    met_matrix,
    require_references,
)
from callbacks.membership.measurements import AUDITED, Measurement, Scored
from callbacks.membership.view import AuditView
from datamodules.errors import UserError

FEWEST_FOR_OWN_VARIANCE = 16


class LiRA(Attack):
    """Gaussian likelihood ratio of the logit-scaled confidence.

    Offline, (phi - mean_out) / sd_out: how many standard deviations above the references that did
    not meet the record. Online, log N(phi; in) - log N(phi; out). A record without a reference on
    each side that is needed is not defined. Variances are per record from 16 references a side,
    pooled over records below; where no record has two on a side, 1, which changes no offline rank.

    Args:
        references: names of the reference models (``--references.models.<name>``), of which some
            met the record and some did not: students of shadow teachers for a student.
        mode: offline (out-references only) or online (both).

    Raises:
        UserError: if an option is out of range.
    """

    name = "lira"
    compares_records = True
    threat_model = "sees log-probabilities of given text and trains models with and without it"

    def __init__(
        self, references: list[str], mode: Literal["offline", "online"] = "offline"
    ) -> None:
        if mode not in ("offline", "online"):
            raise UserError(f"attack lira: mode is {mode!r}: choose offline or online")
        self.references = require_references(self.name, references)
        self.mode = mode

    @property
    def params(self) -> dict[str, float | int | str]:
        """Mode and references."""
        return {"mode": self.mode, "references": ",".join(self.references)}

    @property
    def requires(self) -> frozenset[Measurement]:
        """The records' own text under all models."""
        return frozenset(Scored(model=model) for model in (AUDITED, *self.references))

    def defined(self, view: AuditView) -> Tensor:
        """True where there is a reference on each side that is needed, [B]."""
        met = met_matrix(view, self.references)
        return ~met.all(dim=0) & (met.any(dim=0) | (self.mode == "offline"))

    def record_scores(self, view: AuditView) -> Tensor:
        """Standardised distance from the out-references, or the log-likelihood ratio, [B]."""
        met = met_matrix(view, self.references)
        confidence = logit_confidence(mean_log_likelihoods(view, [AUDITED, *self.references]))
        own, others = confidence[0], confidence[1:]
        mean_out, variance_out = _moments(others, ~met)
        if self.mode == "offline":
            return (own - mean_out) / variance_out.sqrt()
        mean_in, variance_in = _moments(others, met)
        return _log_normal(own, mean_in, variance_in) - _log_normal(own, mean_out, variance_out)


def _moments(values: Tensor, use: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each column's used values.

    Args:
        values: [K, B].
        use: [K, B] bool, at least one per column.

    Returns:
        Two [B]; see :class:`LiRA` for the variance.
    """
    weight = use.double()
    count = weight.sum(dim=0)
    mean = (values * weight).sum(dim=0) / count
    squares = ((values - mean).square() * weight).sum(dim=0)
    freedom = count - 1
    if bool((count >= FEWEST_FOR_OWN_VARIANCE).all()):
        return mean, (squares / freedom).clamp(min=torch.finfo(torch.float64).tiny)
    if not bool((freedom > 0).any()):
        return mean, torch.ones_like(mean)
    pooled = squares.sum() / freedom.sum()
    return mean, pooled.clamp(min=torch.finfo(torch.float64).tiny).expand_as(mean)


def _log_normal(value: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return -0.5 * ((value - mean).square() / variance + variance.log())
