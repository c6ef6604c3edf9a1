"""Neighbour: a memorised text stands out among texts that differ from it in a few words.

Mattern et al., "Membership Inference Attacks against Language Models via Neighbourhood Comparison",
Findings of ACL 2023 (arXiv 2305.18462). The mean over neighbours is set off, as in the paper; a
published tool in effect subtracts the least likely neighbour alone. The paper draws neighbours from
BERT, one word at a time, by its own measure of fit; here whole spans are drawn from what a masked
language model makes of the rest, and where no such model is given, words are left out.
"""

import torch
from torch import Tensor

from audits.membership.attacks.base import Access, Attack
from audits.membership.measurements import Scored
from audits.membership.texts import SpanInfill, TextVariant, WordDropout
from audits.membership.texts.words import check_copies, word_count
from audits.membership.view import AuditView
from audits.scoring.segments import mean_in_order
from common.options import require_at_least


class Neighbour(Attack):
    """Mean log-probability minus its mean over perturbed copies, nats per token.

    A response of one word is not defined: nothing can be left out of it, and what replaces it is no
    neighbour.

    Args:
        copies: number of copies.
        share: share of words that a copy leaves out or rewrites, in (0, 1].
        masked_lm: hub name or ``save_pretrained`` folder of a masked language model that rewrites
            spans of words; None leaves words out.
        span_words: words of a span.

    Raises:
        UserError: if an option is out of range.
    """

    name = "neighbour"
    title = "Neighbour"
    description = "How much likelier it is than perturbed copies of itself."
    access = Access.given_text
    threat_model = "sees log-probabilities of chosen text"

    def __init__(
        self,
        copies: int = 25,
        share: float = 0.15,
        masked_lm: str | None = None,
        span_words: int = 2,
    ) -> None:
        check_copies(self.name, copies, share)
        require_at_least(1, f"attack {self.name}: ", span_words=span_words)
        infill: dict[str, int | str] = {}
        texts: list[TextVariant] = [WordDropout(copy, share) for copy in range(copies)]
        if masked_lm is not None:
            infill = {"masked_lm": masked_lm, "span_words": span_words}
            texts = [SpanInfill(copy, masked_lm, share, span_words) for copy in range(copies)]
        self._neighbours = [Scored(text=text) for text in texts]
        self.params = {"copies": copies, "share": share, **infill}
        self.requires = frozenset({Scored(), *self._neighbours})

    def defined(self, view: AuditView) -> Tensor:
        """True where the response has two words, [B]."""
        return torch.tensor([word_count(record.response) > 1 for record in view.records])

    def record_scores(self, view: AuditView) -> Tensor:
        """LL(x) - mean over copies of LL(x'), [B]."""
        neighbours = (view.tokens(request).mean_logp for request in self._neighbours)
        return view.statistics.mean_logp - mean_in_order(neighbours)
