"""Gradient norm: where training has worked on a record, little is left for it to change.

Wang et al., "Pandora's White-Box: Precise Training Data Detection and Extraction in Large Language
Models", 2024 (arXiv 2402.17012). Dropout is off and the sign is ours throughout: among published
codes one leaves dropout on and one calls large norms members.
"""

import math

from torch import Tensor

from audits.membership.attacks.base import Access, Attack
from audits.membership.signals import GradientNorm
from audits.membership.view import AuditView
from common.errors import UserError


class GradNorm(Attack):
    """Minus the mean over the model's tensors of the p-norm of the gradient of the mean NLL.

    Unit: nats per token and unit of weight.

    Args:
        p: Order of the norm, at least 1.

    Raises:
        UserError: If p is below 1 or not finite.
    """

    name = "grad_norm"
    title = "Gradient norm"
    description = "How small the gradient of its loss is."
    access = Access.weights
    threat_model = "holds the weights"

    def __init__(self, p: float = 2.0) -> None:
        if not 1 <= p < math.inf:
            raise UserError(f"attack {self.name}: p is {p}: give a finite number of at least 1")
        self.p = float(p)
        self.params = {"p": self.p}
        self.requires = frozenset({self._signal})

    @property
    def _signal(self) -> GradientNorm:
        return GradientNorm(self.p)

    def record_scores(self, view: AuditView) -> Tensor:
        """Minus the mean norm, [B]."""
        return -view.signal(self._signal)[:, 0]
