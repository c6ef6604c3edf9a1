"""Min-K% as the published distillation experiment computes it: on probabilities.

A departure from Shi et al. (ICLR 2024), kept so that published figures can be compared like with
like. It is no attack of the field: a probability near 0 weighs as much as one of 0.
"""

from torch import Tensor

from audits.membership.attacks.share import ShareAttack
from audits.membership.view import AuditView
from audits.scoring.segments import lowest_share_mean


class ReleasedMinK(ShareAttack):
    """Mean of the ceil(k n) lowest token probabilities.

    Args:
        k: share of tokens, in (0, 1].

    Raises:
        UserError: if k is outside (0, 1].
    """

    name = "as_released_min_k"
    title = "Min-K%, as released"
    description = "Min-K% as published code computes it, on probabilities."
    threat_model = "sees log-probabilities of given text"

    def record_scores(self, view: AuditView) -> Tensor:
        """Mean of the lowest share k of exp(l_t), [B]."""
        own = view.statistics
        return lowest_share_mean(own.logp.double().exp(), own.offsets, self.k)
