"""InfoRMIA: how many nats more does the model tell of the record's tokens than of any others?

Tao and Shokri, "(Token-Level) InfoRMIA: Stronger Membership Inference and Memorization Assessment
for LLMs", ICLR 2026 (arXiv 2510.05582): RMIA's comparison with population records z in bits, the
log-ratio of x less its mean over z ~ p, which is log(p(x | theta) / p(x)) + KL(p(z) || p(z |
theta)). At each token z is every token of the vocabulary and p the reference's distribution. Over
whole records the second term is one number for all, and the ranking that of ``reference``; here it
is a record's own.
"""

from torch import Tensor

from audits.membership.attacks.aligned import shifts, token_by_token
from audits.membership.attacks.base import Access, Attack
from audits.membership.measurements import Scored
from audits.membership.signals import Divergence
from audits.membership.view import AuditView
from audits.scoring.segments import segment_sum


class InfoRMIA(Attack):
    """Mean over tokens of the rise in log-probability over the reference plus the divergence there.

    With l the log-probability of the true token: l - l_ref + KL(reference || model), nats per
    token. Both models' distributions are read in a pass of its own.

    Args:
        reference: name of the reference model (``--references.models.<name>``), of the audited
            model's tokenizer.
    """

    name = "informia"
    title = "InfoRMIA"
    description = "How much more its tokens rose over a reference than other tokens did."
    access = Access.distributions
    shares_tokens = True
    threat_model = (
        "sees whole next-token distributions on given text and holds a model without the records"
    )

    def __init__(self, reference: str = "base") -> None:
        self.reference = reference
        self.params = {"reference": reference}
        self._divergence = Divergence(reference)
        self.requires = frozenset({Scored(), Scored(model=reference), self._divergence})

    def record_scores(self, view: AuditView) -> Tensor:
        """Mean information per token, [B].

        Raises:
            UserError: if the view has no such reference, or one with another tokenizer.
        """
        own, other = token_by_token(view, self.reference, self.name)
        rise = segment_sum(shifts(own, other), own.offsets)
        return (rise + view.signal(self._divergence)[:, 0]) / own.lengths
