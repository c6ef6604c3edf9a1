"""EZ: does what the model gets wrong rise towards the record, or fall away from it?

Ilić, Stanojević and Cvejoski, "Powerful Training-Free Membership Inference Against Autoregressive
Language Models", 2026 (arXiv 2601.12104): P over N, the sums of the rises and of the falls in
log-probability against a reference, over the tokens that the model misses. There a record of which
it misses fewer than two scores 0, the least there is, so that the members it knows by heart look
like non-members. Departures: tokens that the reference misses count too, and the logarithm of a
ratio with c nats on both sides puts a record without such tokens in the middle.
"""

from torch import Tensor

from audits.membership.attacks.aligned import shifts, token_by_token
from audits.membership.attacks.base import Access, Attack
from audits.membership.measurements import Scored
from audits.membership.view import AuditView
from audits.scoring.segments import segment_sum
from common.options import require_positive

_FEWEST_MISSED = 2
_SMALLEST_FALL = 1e-6
"""Nats; floor of the published form's denominator, where no token falls."""


class EZ(Attack):
    """log((P + c) / (N + c)) over a record's error tokens, no unit.

    P is the sum of the rises in log-probability over the reference, N that of the falls, in nats;
    an error token is one that the audited model or the reference would not write. Without any the
    score is 0.

    Args:
        reference: name of the reference model (``--references.models.<name>``), of the audited
            model's tokenizer.
        c: nats that are added to both sums.
        published: P / N over the tokens that the audited model misses, 0 where those are fewer than
            two; c does not count.

    Raises:
        UserError: if c is not above 0.
    """

    name = "ez"
    title = "EZ"
    description = "Whether tokens that are not foreseen rise or fall against a reference."
    access = Access.given_text
    shares_tokens = True
    threat_model = (
        "sees log-probabilities of given text and its likeliest tokens, and holds a model without "
        "the records"
    )

    def __init__(self, reference: str = "base", c: float = 0.1, published: bool = False) -> None:
        require_positive(f"attack {self.name}: ", c=c)
        self.reference, self.c, self.published = reference, float(c), published
        form = {"published": 1} if published else {"c": self.c}
        self.params = {"reference": reference, **form}
        self.requires = frozenset({Scored(), Scored(model=reference)})

    def record_scores(self, view: AuditView) -> Tensor:
        """Log-ratio of rises and falls, [B].

        Raises:
            UserError: if the view has no such reference, or one with another tokenizer.
        """
        own, other = token_by_token(view, self.reference, self.name)
        missed = own.rank > 0
        if not self.published:
            missed |= other.rank > 0
        shift = shifts(own, other).where(missed, 0.0)
        rises = segment_sum(shift.clamp(min=0), own.offsets)
        falls = segment_sum(-shift.clamp(max=0), own.offsets)
        if not self.published:
            return ((rises + self.c) / (falls + self.c)).log()
        ratio = rises / falls.clamp(min=_SMALLEST_FALL)
        return ratio.where(segment_sum(missed, own.offsets) >= _FEWEST_MISSED, 0.0)
