"""Min-K% and Min-K%++: the least likely tokens of a record that the model saw are less surprising.

Shi et al., "Detecting Pretraining Data from Large Language Models", ICLR 2024 (arXiv 2310.16789).
Log-probabilities, as in the paper; published code for distilled models averages probabilities.

Zhang et al., "Min-K%++: Improved Baseline for Detecting Pre-Training Data from Large Language
Models", ICLR 2025 (arXiv 2404.02936): z_t = (l_t - mu_t) / sigma_t, with mu_t and sigma_t the mean
and standard deviation of log q_t(v) for v ~ q_t. Published code for distilled models puts a
probability in place of l_t.
"""

from abc import abstractmethod

from torch import Tensor

from audits.membership.attacks.base import Access, Attack
from audits.membership.view import AuditView
from audits.scoring.segments import lowest_share_mean
from audits.scoring.token_statistics import TokenStatistics
from common.errors import UserError

SMALLEST_DEVIATION = 1e-6
"""Floor of a token's standard deviation: where the distribution is one token it is 0."""


class ShareAttack(Attack):
    """Mean of the ceil(k n) lowest numbers of a record's n tokens.

    Args:
        k: share of tokens, in (0, 1].

    Raises:
        UserError: if k is outside (0, 1].
    """

    def __init__(self, k: float = 0.2) -> None:
        if not 0.0 < k <= 1.0:
            raise UserError(f"attack {self.name}: k is a share of tokens in (0, 1], found {k}")
        self.params = {"k": k}
        self.k = k

    @abstractmethod
    def token_scores(self, statistics: TokenStatistics) -> Tensor:
        """Returns each token's number, [n]."""

    def record_scores(self, view: AuditView) -> Tensor:
        """Mean of the lowest share k of the tokens' numbers, [B]."""
        own = view.statistics
        return lowest_share_mean(self.token_scores(own), own.offsets, self.k)


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

    def token_scores(self, statistics: TokenStatistics) -> Tensor:
        """l_t, [n]."""
        return statistics.logp


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

    def token_scores(self, statistics: TokenStatistics) -> Tensor:
        """exp(l_t), [n]."""
        return statistics.logp.double().exp()


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

    def token_scores(self, statistics: TokenStatistics) -> Tensor:
        """(l_t - mu_t) / max(sigma_t, 1e-6), [n]."""
        centred = statistics.logp.double() - statistics.mean.double()
        return centred / _deviations(statistics)


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

    def token_scores(self, statistics: TokenStatistics) -> Tensor:
        """The mixed z-score, [n]."""
        mixed = statistics.logp.double().exp() - statistics.mean.double()
        return mixed / _deviations(statistics)


def _deviations(statistics: TokenStatistics) -> Tensor:
    """Returns the floored standard deviation of log q(v), v ~ q, at each token, [n] float64."""
    return statistics.variance.double().sqrt().clamp(min=SMALLEST_DEVIATION)
