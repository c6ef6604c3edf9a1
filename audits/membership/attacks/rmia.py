"""RMIA: how many records that nobody trained on does this record dominate?

Zarifzadeh, Liu and Shokri, "Low-Cost High-Power Membership Inference Attacks", ICML 2024 (arXiv
2312.03262), offline form, sections 3 and 3.2. p(x) is the geometric mean of the tokens'
probabilities, which keeps records of different lengths comparable. Two departures: the paper's
a = 0.3 is made for classifiers, whose p(x) is of order 1; at the .001-.01 of text it swamps the
mean, and the ratio then ranks as the loss does. And ties of the share, frequent with a small
population, are broken by the ratio.
"""

import math
from collections.abc import Sequence
from copy import copy
from typing import Self

import torch
from scipy import stats
from torch import Tensor

from audits.membership.attacks.base import Access, Attack
from audits.membership.attacks.confidence import (
    mean_log_likelihoods,
    met_matrix,
    require_references,
)
from audits.membership.attacks.offline import UNTUNED, log_ratios, tuned_correction
from audits.membership.attacks.reference import Reference
from audits.membership.measurements import AUDITED, NEVER, Scored
from audits.membership.view import AuditView
from common.errors import UserError


class RMIA(Attack):
    """Share of population records z with (p(x)/p̄(x)) / (p(z)/p̄(z)) > gamma, ties by the ratio.

    p̄(x) = ((1 + a) mean p(x) + (1 - a)) / 2, the mean over the references that did not meet x: the
    offline estimate of what p(x) would be on average over worlds with and without x. Population
    records are of ``never``, which no reference met either. Of n such records a record that
    dominates k scores between k / (n + 1) and (k + 1) / (n + 1), by its ratio. References of a
    student are students of teachers that did not meet the record; a reference that was fine-tuned
    on the records directly is another distribution and a weaker attack. A record that every
    reference met is not defined.

    The a in use, and the rank correlations that tell where this attack is ``loss`` or ``reference``
    by another name, are in the result rows ``a``, ``spearman_loss`` and ``spearman_reference`` (the
    largest over the references); 1 is the same ranking.

    Args:
        references: names of the reference models (``--references.models.<name>``).
        gamma: by which factor x must dominate z, at least 1.
        a: offline correction, in [0, 1]. None tunes it where it is known which records the
            references met: each such reference in turn is attacked with the others, and the a with
            the best mean AUROC is taken. Where that is not known it is 1, p̄ being the mean alone.

    Raises:
        UserError: if an option is out of range.
    """

    name = "rmia"
    title = "RMIA"
    description = "Share of population records against which its likelihood ratio is the larger."
    compares_records = True
    access = Access.given_text
    shadows = True
    threat_model = "sees log-probabilities of given text and holds models without the records"

    def __init__(self, references: list[str], gamma: float = 1.0, a: float | None = None) -> None:
        if gamma < 1 or not (a is None or 0 <= a <= 1):
            raise UserError(f"attack rmia: gamma={gamma} must be at least 1 and a={a} in [0, 1]")
        self.references = require_references(self.name, references)
        self.gamma = gamma
        self.a = a
        self._correction = UNTUNED if a is None else a
        used = "tuned" if a is None else a
        self.params = {"a": used, "gamma": gamma, "references": ",".join(references)}
        models = [AUDITED, *self.references]
        self.requires = frozenset(
            Scored(model=model, records=records) for model in models for records in (AUDITED, NEVER)
        )

    def tuned(self, views: Sequence[AuditView]) -> Self:
        """Returns the attack with the a that serves best against its own references."""
        if self.a is not None:
            return self
        tuned = copy(self)
        known = self.references
        tuned._correction = tuned_correction(
            [(mean_log_likelihoods(view, known), met_matrix(view, known)) for view in views]
        )
        return tuned

    @property
    def ranks_as(self) -> Attack | None:
        """``reference``, of a single reference and without a correction."""
        alone = len(self.references) == 1 and self._correction == UNTUNED
        return Reference(self.references[0]) if alone else None

    def defined(self, view: AuditView) -> Tensor:
        """True where some reference did not meet the record, [B]."""
        return ~met_matrix(view, self.references).all(dim=0)

    def record_scores(self, view: AuditView) -> Tensor:
        """Share of the population that each record dominates, [B], in (0, 1)."""
        limit = self._log_ratio(view, AUDITED) - math.log(self.gamma)
        theirs = self._log_ratio(view, NEVER).sort().values
        # Strictly rising in the ratio, from 0 to 1: more than any record alone can win.
        part = 0.5 + torch.atan(limit) / math.pi
        return (torch.searchsorted(theirs, limit).double() + part) / (len(theirs) + 1)

    def diagnostics(self, view: AuditView) -> dict[str, float]:
        """The a in use, and the rank correlations with ``loss`` and ``reference``."""
        scores = self.record_scores(view)
        own, *others = mean_log_likelihoods(view, [AUDITED, *self.references])
        with_references = [_spearman(scores, own - other) for other in others]
        return {
            "a": self._correction,
            "spearman_loss": _spearman(scores, own),
            "spearman_reference": max(
                (one for one in with_references if not math.isnan(one)), default=math.nan
            ),
        }

    def _log_ratio(self, view: AuditView, records: str) -> Tensor:
        """log p(x) - log p̄(x), [B] float64."""
        own = mean_log_likelihoods(view, [AUDITED], records)[0]
        others = mean_log_likelihoods(view, self.references, records)
        met = torch.zeros_like(others, dtype=torch.bool)
        if records == AUDITED:
            met = met_matrix(view, self.references)
        return log_ratios(own, others, ~met, self._correction)


def _spearman(a: Tensor, b: Tensor) -> float:
    """Rank correlation of two [B]; NaN where one of them does not vary."""
    ranks = [stats.rankdata(one.numpy()) for one in (a, b)]
    if any(len(set(one.tolist())) < 2 for one in ranks):
        return math.nan
    return float(stats.pearsonr(*ranks).statistic)
