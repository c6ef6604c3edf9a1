"""Loss: members have a lower loss than records that the model never saw.

Yeom et al., "Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting", CSF 2018.
"""

from torch import Tensor

from audits.membership.attacks.base import Access, Attack
from audits.membership.view import AuditView


class Loss(Attack):
    """Mean log-probability of the response's tokens, nats per token: minus the loss."""

    name = "loss"
    title = "Loss"
    description = "Mean log-probability of its tokens."
    access = Access.given_text
    threat_model = "sees log-probabilities of given text"

    def record_scores(self, view: AuditView) -> Tensor:
        """Mean of l_t, [B]."""
        return view.statistics.mean_logp
