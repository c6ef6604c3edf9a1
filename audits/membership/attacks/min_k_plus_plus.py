"""Min-K%++: Min-K% on log-probabilities standardised by the model's own distribution.

Zhang et al., "Min-K%++: Improved Baseline for Detecting Pre-Training Data from Large Language
Models", ICLR 2025 (arXiv 2404.02936): z_t = (l_t - mu_t) / sigma_t, with mu_t and sigma_t the mean
and standard deviation of log q_t(v) for v ~ q_t. Published code for distilled models puts a
probability in place of l_t.
"""

from torch import Tensor

from audits.membership.attacks.base import Access
from audits.membership.attacks.min_k import ShareAttack
from audits.membership.view import AuditView
from audits.scoring.segments import lowest_share_mean
from audits.scoring.token_statistics import TokenStatistics

SMALLEST_DEVIATION = 1e-6
"""Floor of a token's standard deviation: where the distribution is one token it is 0."""


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
    access = Access.distributions
    threat_model = "sees the whole next-token distribution at each token of given text"

    def record_scores(self, view: AuditView) -> Tensor:
        """Mean of the lowest share k of (l_t - mu_t) / max(sigma_t, 1e-6), [B]."""
        statistics = view.statistics
        centred = statistics.logp.double() - statistics.mean.double()
        standardised = centred / _deviations(statistics)
        return lowest_share_mean(standardised, statistics.offsets, self.k)


class ReleasedMinKPlusPlus(ShareAttack):
    """Mean of the ceil(k n) lowest (exp(l_t) - mu_t) / sigma_t, sigma floored.

    A departure from Zhang et al., as the published distillation experiment computes it, kept so
    that published figures can be compared like with like: the probability of the true token stands
    where its logarithm belongs.

    Args:
        k: share of tokens, in (0, 1].

    Raises:
        UserError: if k is outside (0, 1].
    """

    name = "as_released_min_k_plus_plus"
    title = "Min-K%++, as released"
    description = "Min-K%++ as published code computes it, on probabilities."
    access = Access.distributions
    threat_model = "sees the whole next-token distribution on given text"

    def record_scores(self, view: AuditView) -> Tensor:
        """Mean of the lowest share k of the mixed z-score, [B]."""
        own = view.statistics
        mixed = (own.logp.double().exp() - own.mean.double()) / _deviations(own)
        return lowest_share_mean(mixed, own.offsets, self.k)


def _deviations(statistics: TokenStatistics) -> Tensor:
    """Returns the floored standard deviation of log q(v), v ~ q, at each token, [n] float64."""
    return statistics.variance.double().sqrt().clamp(min=SMALLEST_DEVIATION)
