"""Min-K%: the least likely tokens of a record that the model saw are less surprising.

Shi et al., "Detecting Pretraining Data from Large Language Models", ICLR 2024 (arXiv 2310.16789).
Log-probabilities, as in the paper; published code for distilled models averages probabilities.
"""

from torch import Tensor

from audits.membership.attacks.base import Access, Attack
from audits.membership.view import AuditView
from audits.scoring.segments import lowest_share_mean
from common.errors import UserError


class ShareAttack(Attack):
    """An attack on the lowest share of a record's tokens.

    Args:
        k: share of tokens, in (0, 1].

    Raises:
        UserError: if k is outside (0, 1].
    """

    def __init__(self, k: float = 0.2) -> None:
        if not 0.0 < k <= 1.0:
            raise UserError(f"attack {self.name}: k is a share of tokens in (0, 1], found {k}")
        self.k = k
        self.params = {"k": self.k}


class MinK(ShareAttack):
    """Mean of the ceil(k n) lowest log-probabilities of a record's n tokens, nats per token.

    Args:
        k: share of tokens, in (0, 1].

    Raises:
        UserError: if k is outside (0, 1].
    """

    name = "min_k"
    title = "Min-K%"
    description = "Mean log-probability of its least likely tokens."
    access = Access.given_text
    threat_model = "sees log-probabilities of given text"

    def record_scores(self, view: AuditView) -> Tensor:
        """Mean of the lowest share k of l_t, [B]."""
        return lowest_share_mean(view.statistics.logp, view.statistics.offsets, self.k)


class ReleasedMinK(ShareAttack):
    """Mean of the ceil(k n) lowest token probabilities.

    A departure from Shi et al., as the published distillation experiment computes it, kept so that
    published figures can be compared like with like. It is no attack of the field: a probability
    near 0 weighs as much as one of 0.

    Args:
        k: share of tokens, in (0, 1].

    Raises:
        UserError: if k is outside (0, 1].
    """

    name = "as_released_min_k"
    title = "Min-K%, as released"
    description = "Min-K% as published code computes it, on probabilities."
    access = Access.given_text
    threat_model = "sees log-probabilities of given text"

    def record_scores(self, view: AuditView) -> Tensor:
        """Mean of the lowest share k of exp(l_t), [B]."""
        own = view.statistics
        return lowest_share_mean(own.logp.double().exp(), own.offsets, self.k)
