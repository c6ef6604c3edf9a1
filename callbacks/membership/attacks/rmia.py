"""RMIA: how many records that nobody trained on does this record dominate?

Zarifzadeh, Liu and Shokri, "Low-Cost High-Power Membership Inference Attacks", ICML 2024 (arXiv
2312.03262), offline form, sections 3 and 3.2. p(x) is the geometric mean of the tokens'
probabilities, which keeps records of different lengths comparable.
"""

import torch
from torch import Tensor

from callbacks.membership.attacks.base import Attack
from callbacks.membership.attacks.confidence import (
    mean_log_likelihoods,
    met_matrix,
    require_references,
)
from callbacks.membership.measurements import AUDITED, NEVER, Measurement, Scored
from callbacks.membership.view import AuditView
from datamodules.errors import UserError


class RMIA(Attack):
    """Share of population records z with (p(x)/p̄(x)) / (p(z)/p̄(z)) > gamma.

    p̄(x) = ((1 + a) mean p(x) + (1 - a)) / 2, the mean over the references that did not meet x: the
    offline estimate of what p(x) would be on average over worlds with and without x. Population
    records are of ``never``, which no reference met either. References of a student are students of
    teachers that did not meet the record; a reference that was fine-tuned on the records directly
    is another distribution and a weaker attack. A record that every reference met is not defined.

    Args:
        references: names of the reference models (``--references.models.<name>``).
        gamma: by which factor x must dominate z, at least 1.
        a: offline correction, in [0, 1].

    Raises:
        UserError: if an option is out of range.
    """

    name = "rmia"
    compares_records = True
    threat_model = "sees log-probabilities of given text and holds models without the records"

    def __init__(self, references: list[str], gamma: float = 1.0, a: float = 0.3) -> None:
        if gamma < 1 or not 0 <= a <= 1:
            raise UserError(f"attack rmia: gamma={gamma} must be at least 1 and a={a} in [0, 1]")
        self.references = require_references(self.name, references)
        self.gamma = gamma
        self.a = a

    @property
    def params(self) -> dict[str, float | int | str]:
        """Options and references."""
        return {"a": self.a, "gamma": self.gamma, "references": ",".join(self.references)}

    @property
    def requires(self) -> frozenset[Measurement]:
        """Records and population under all models."""
        models = [AUDITED, *self.references]
        return frozenset(
            Scored(model=model, records=records) for model in models for records in (AUDITED, NEVER)
        )

    def defined(self, view: AuditView) -> Tensor:
        """True where some reference did not meet the record, [B]."""
        return ~met_matrix(view, self.references).all(dim=0)

    def record_scores(self, view: AuditView) -> Tensor:
        """Share of the population that each record dominates, [B]."""
        unmet = ~met_matrix(view, self.references)
        ours = self._log_ratio(view, AUDITED, unmet)
        theirs = self._log_ratio(view, NEVER, None).sort().values
        limit = ours - torch.tensor(self.gamma, dtype=torch.float64).log()
        return torch.searchsorted(theirs, limit).double() / len(theirs)

    def _log_ratio(self, view: AuditView, records: str, unmet: Tensor | None) -> Tensor:
        """log p(x) - log p̄(x), [B] float64."""
        own = mean_log_likelihoods(view, [AUDITED], records)[0]
        out = mean_log_likelihoods(view, self.references, records).exp()  # [K, B]
        weight = torch.ones_like(out) if unmet is None else unmet.double()
        mean = (out * weight).sum(dim=0) / weight.sum(dim=0)
        return own - (((1 + self.a) * mean + (1 - self.a)) / 2).log()
