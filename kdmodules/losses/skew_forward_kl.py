"""Skew forward KL of DistiLLM (Ko et al. 2024, eq. 3)."""

import torch
from torch import Tensor

from common.options import require_share
from kdmodules.losses.divergence import KDLoss, at_least_zero, expectation, project_to_logits
from kdmodules.losses.forward_kl import ForwardKL
from kdmodules.losses.mixture import log_mixture


class SkewForwardKL(KDLoss):
    """`KL(p || alpha p + (1 - alpha) q)` in nats, at most -log alpha.

    alpha = 0 is the forward KL; at alpha = 1 nothing is left of the student and the value is 0.

    Args:
        alpha: Share of the teacher in the mixture, in [0, 1]; DistiLLM's is 0.1.

    Raises:
        UserError: `alpha` is out of range.
    """

    def __init__(self, alpha: float = 0.1) -> None:
        super().__init__()
        require_share(alpha=alpha)
        self.alpha = alpha
        self.limit = ForwardKL() if alpha == 0 else None

    def per_token(self, student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
        """Divergence per token; shapes as `KDLoss.per_token`."""
        if self.limit is not None:
            return self.limit.per_token(student_logp, teacher_logp)
        if self.alpha == 1:
            # Zero, but still a function of the student, so that a backward pass finds it.
            return expectation(student_logp, student_logp) * 0
        mixed = log_mixture(student_logp, teacher_logp, self.alpha)
        return at_least_zero(expectation(teacher_logp, teacher_logp - mixed))

    def per_token_with_grad(
        self, student_logp: Tensor, teacher_logp: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Divergence and its gradient by student logits.

        The gradient is `c - q sum(c)` with `c = -(1 - alpha) p q / m`.
        Shapes as `KDLoss.per_token_with_grad`.
        """
        if self.limit is not None:
            return self.limit.per_token_with_grad(student_logp, teacher_logp)
        ratio = log_mixture(student_logp, teacher_logp, self.alpha)
        torch.sub(teacher_logp, ratio, out=ratio)
        value = teacher_logp.exp().mul_(ratio).sum(-1)
        pulled = ratio.add_(student_logp).exp_().mul_(self.alpha - 1)
        return at_least_zero(value), project_to_logits(pulled, student_logp)
