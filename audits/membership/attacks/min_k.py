"""Min-K%: the least likely tokens of a record that the model saw are less surprising.

Shi et al., "Detecting Pretraining Data from Large Language Models", ICLR 2024 (arXiv 2310.16789).
Log-probabilities, as in the paper; published code for distilled models averages probabilities.
"""

from torch import Tensor

from audits.membership.attacks.share import ShareAttack
from audits.membership.view import AuditView
from audits.scoring.segments import lowest_share_mean


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
    threat_model = "sees log-probabilities of given text"

    def record_scores(self, view: AuditView) -> Tensor:
        """Mean of the lowest share k of l_t, [B]."""
        return lowest_share_mean(view.statistics.logp, view.statistics.offsets, self.k)
