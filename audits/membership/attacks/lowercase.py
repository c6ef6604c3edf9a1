"""Lowercase: a memorised text loses more than another when its capitals go.

Carlini et al., "Extracting Training Data from Large Language Models", USENIX Security 2021, section
5.1. The response alone is lowercased, after its own prompt: the prompt is not scored.
"""

from torch import Tensor

from audits.membership.attacks.base import Access, Attack
from audits.membership.attacks.ratio import floored_nll, nll
from audits.membership.measurements import Scored
from audits.membership.texts import Lowercased
from audits.membership.view import AuditView

_LOWERCASED = Scored(text=Lowercased())


class Lowercase(Attack):
    """NLL of the lowercased response over NLL of the response, no unit.

    Both are means over their own tokens. The denominator is at least 0.01 nats per token.
    """

    name = "lowercase"
    title = "Lowercase"
    description = "How much of its likelihood is lost in lowercase letters."
    access = Access.given_text
    threat_model = "sees log-probabilities of chosen text"
    requires = frozenset({Scored(), _LOWERCASED})

    def record_scores(self, view: AuditView) -> Tensor:
        """NLL(lower(y)) / max(NLL(y), 0.01), [B]."""
        return nll(view.tokens(_LOWERCASED)) / floored_nll(view.statistics)
