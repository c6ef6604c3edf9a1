"""Min-K%++: Min-K% on log-probabilities standardised by the model's own distribution.

Zhang et al., "Min-K%++: Improved Baseline for Detecting Pre-Training Data from Large Language
Models", ICLR 2025 (arXiv 2404.02936): z_t = (l_t - mu_t) / sigma_t, with mu_t and sigma_t the mean
and standard deviation of log q_t(v) for v ~ q_t. Published code for distilled models puts a
probability in place of l_t.
"""

from torch import Tensor

from audits.membership.attacks.share import ShareAttack, deviations
from audits.membership.view import AuditView
from audits.scoring.segments import lowest_share_mean


class MinKPlusPlus(ShareAttack):
    """Mean of the ceil(k n) lowest standardised log-probabilities of a record's n tokens, no unit.

    sigma_t is floored at 1e-6: where the distribution is one token, l_t equals mu_t.

    Args:
        k: share of tokens, in (0, 1].

    Raises:
        UserError: if k is outside (0, 1].
    """

    name = "min_k_plus_plus"
    title = "Min-K%++"
    description = "Min-K%, each token set against the whole next-token distribution."
    threat_model = "sees the whole next-token distribution at each token of given text"

    def record_scores(self, view: AuditView) -> Tensor:
        """Mean of the lowest share k of (l_t - mu_t) / max(sigma_t, 1e-6), [B]."""
        statistics = view.statistics
        centred = statistics.logp.double() - statistics.mean.double()
        standardised = centred / deviations(statistics)
        return lowest_share_mean(standardised, statistics.offsets, self.k)
