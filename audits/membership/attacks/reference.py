"""Reference: the loss, set off against what a model that never saw the record makes of it.

Carlini et al., "Extracting Training Data from Large Language Models", USENIX Security 2021, in the
difference form: they take a ratio of log-perplexities.
"""

import torch
from torch import Tensor

from audits.membership.attacks.aligned import require_same_tokens, same_tokenizer, shifts
from audits.membership.attacks.base import Access, Attack
from audits.membership.measurements import Scored
from audits.membership.view import AuditView
from audits.scoring.segments import segment_mean, segment_sum


class Reference(Attack):
    """Mean log-probability minus that under a reference model.

    On the same tokens the unit is nats per token. A reference with another tokenizer is compared by
    log-likelihood per UTF-8 byte of the response, nats per byte, which needs both models to have
    scored the whole response.

    Args:
        reference: name of the reference model (``--references.models.<name>``).
    """

    name = "reference"
    title = "Reference"
    description = "How much likelier it is than under a model that never met it."
    access = Access.given_text
    threat_model = "sees log-probabilities of given text and holds a model without the records"

    def __init__(self, reference: str = "base") -> None:
        self.reference = reference
        self.params = {"reference": self.reference}
        self.requires = frozenset({Scored(), Scored(model=self.reference)})

    def record_scores(self, view: AuditView) -> Tensor:
        """LL - LL_ref on the same tokens, otherwise the difference of sums over bytes, [B].

        Raises:
            UserError: if the view has no such reference.
            ValueError: if two tables that should be of the same tokens are not.
        """
        own, other = view.statistics, view.tokens(Scored(model=self.reference))
        if same_tokenizer(own, other):
            require_same_tokens(own, other)
            return segment_mean(shifts(own, other), own.offsets)
        sizes = [len(view.scored_text(record).encode("utf-8")) for record in view.records]
        difference = segment_sum(own.logp, own.offsets) - segment_sum(other.logp, other.offsets)
        return difference / torch.tensor(sizes, dtype=torch.float64)
