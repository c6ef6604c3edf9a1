"""Top-k loss: the loss as far as an interface tells it that names the k likeliest tokens.

The loss (Yeom et al., "Privacy Risk in Machine Learning", CSF 2018) of an attacker whose interface
returns the log-probabilities of the k likeliest tokens alone, as that of Carlini et al., "Stealing
Part of a Production Language Model", ICML 2024 (arXiv 2403.06634, section 2). What is left is
spread evenly over the other tokens.
"""

from torch import Tensor

from audits.membership.attacks.base import Access, Attack
from audits.membership.measurements import OutsideTop, Scored
from audits.membership.view import AuditView
from audits.scoring.segments import segment_mean
from audits.scoring.token_statistics import TokenStatistics
from common.errors import UserError
from kdmodules.scoring import TOP_K


class TopKLoss(Attack):
    """Mean over tokens of the log-probability as the k likeliest tell it, nats per token.

    Where the true token is not among them it is log(max(1 - their sum, 1e-6) / (V - k)), V without
    padding. Tokens as likely as the k-th count as among them. The share of tokens that are not is
    in the result row ``outside_top``.

    Args:
        k: how many tokens the interface tells, 5 or 20.

    Raises:
        UserError: if k is another number.
    """

    name = "top_k_loss"
    title = "Top-k loss"
    description = "Mean log-probability, as far as the k likeliest tokens tell it."
    access = Access.top_k
    threat_model = "sees the k likeliest tokens and their log-probabilities after given text"
    requires = frozenset({Scored(), OutsideTop()})

    def __init__(self, k: int = TOP_K[-1]) -> None:
        if k not in TOP_K:
            raise UserError(f"attack {self.name}: k is {k}: choose {' or '.join(map(str, TOP_K))}")
        self.k = k
        self.params = {"k": k}

    def record_scores(self, view: AuditView) -> Tensor:
        """Mean log-probability, [B].

        Raises:
            UserError: if the statistics were stored by an audit without this attack.
        """
        own = view.statistics
        outside = getattr(own, f"outside_top_{self.k}")
        if outside is None:
            raise UserError(
                f"attack {self.name} reads what is left outside the {self.k} likeliest tokens, and "
                "these statistics lack it: they were stored by an audit without this attack; audit "
                "again with it"
            )
        return segment_mean(own.logp.where(own.rank < self.k, outside), own.offsets)

    def diagnostics(self, view: AuditView) -> dict[str, float]:
        """The share of tokens that are not among the k likeliest."""
        tokens = int(view.table(Scored()).lengths.sum())
        outside = sum(self._outside(shard.statistics) for shard in view.shards())
        return {"outside_top": outside / tokens}

    def _outside(self, statistics: TokenStatistics) -> int:
        return int((statistics.rank >= self.k).sum())
