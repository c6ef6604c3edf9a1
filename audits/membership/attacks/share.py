"""What the attacks on a share of a record's tokens have in common: the share."""

from typing import ClassVar

from torch import Tensor

from audits.membership.attacks.base import Attack
from audits.scoring.token_statistics import TokenStatistics
from common.errors import UserError

SMALLEST_DEVIATION = 1e-6
"""Floor of a token's standard deviation: where the distribution is one token it is 0."""


class ShareAttack(Attack):
    """An attack on the lowest share of a record's tokens.

    Args:
        k: share of tokens, in (0, 1].

    Raises:
        UserError: if k is outside (0, 1].
    """

    name: ClassVar[str]

    def __init__(self, k: float = 0.2) -> None:
        if not 0.0 < k <= 1.0:
            raise UserError(f"attack {self.name}: k is a share of tokens in (0, 1], found {k}")
        self.k = k

    @property
    def params(self) -> dict[str, float | int | str]:
        """The share k."""
        return {"k": self.k}


def deviations(statistics: TokenStatistics) -> Tensor:
    """Returns the floored standard deviation of log q(v), v ~ q, at each token, [n] float64."""
    return statistics.variance.double().sqrt().clamp(min=SMALLEST_DEVIATION)
