"""Min-K%++ as the published distillation experiment computes it: a probability among logarithms.

A departure from Zhang et al. (ICLR 2025), kept so that published figures can be compared like with
like: the probability of the true token stands where its logarithm belongs.
"""

from torch import Tensor

from audits.membership.attacks.share import ShareAttack, deviations
from audits.membership.view import AuditView
from audits.scoring.segments import lowest_share_mean


class ReleasedMinKPlusPlus(ShareAttack):
    """Mean of the ceil(k n) lowest (exp(l_t) - mu_t) / sigma_t, sigma floored.

    Args:
        k: share of tokens, in (0, 1].

    Raises:
        UserError: if k is outside (0, 1].
    """

    name = "as_released_min_k_plus_plus"
    title = "Min-K%++, as released"
    description = "Min-K%++ as published code computes it, on probabilities."
    threat_model = "sees the whole next-token distribution on given text"

    def record_scores(self, view: AuditView) -> Tensor:
        """Mean of the lowest share k of the mixed z-score, [B]."""
        own = view.statistics
        mixed = (own.logp.double().exp() - own.mean.double()) / deviations(own)
        return lowest_share_mean(mixed, own.offsets, self.k)
