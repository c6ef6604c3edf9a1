"""Skew reverse KL of DistiLLM (Ko et al. 2024, eq. 4)."""

import torch
from torch import Tensor

from common.options import require_share
from kdmodules.losses.divergence import KDLoss, at_least_zero, expectation
from kdmodules.losses.mixture import log_mixture
from kdmodules.losses.reverse_kl import ReverseKL


class SkewReverseKL(KDLoss):
    """`KL(q || (1 - alpha) p + alpha q)` in nats, at most -log alpha.

    alpha = 0 is the reverse KL; at alpha = 1 nothing is left of the teacher and the value is 0.

    Args:
        alpha: Share of the student in the mixture, in [0, 1]; DistiLLM's is 0.1.

    Raises:
        UserError: `alpha` is out of range.
    """

    def __init__(self, alpha: float = 0.1) -> None:
        super().__init__()
        require_share(alpha=alpha)
        self.alpha = alpha
        self.limit = ReverseKL() if alpha == 0 else None
        self.needs_teacher_support = alpha == 0

    def per_token(self, student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
        """Divergence per token; shapes as `KDLoss.per_token`."""
        if self.limit is not None:
            return self.limit.per_token(student_logp, teacher_logp)
        mixed = log_mixture(student_logp, teacher_logp, 1 - self.alpha)
        return at_least_zero(expectation(student_logp, student_logp - mixed))

    def per_token_with_grad(
        self, student_logp: Tensor, teacher_logp: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Divergence and its gradient by student logits.

        The gradient is `c - q sum(c)` with `c = q (log(q / m) - alpha q / m)`; the 1 that the
        derivative of `q log q` adds falls out of the difference.
        Shapes as `KDLoss.per_token_with_grad`.
        """
        if self.limit is not None:
            return self.limit.per_token_with_grad(student_logp, teacher_logp)
        ratio = log_mixture(student_logp, teacher_logp, 1 - self.alpha)
        torch.sub(student_logp, ratio, out=ratio)
        probability = student_logp.exp()
        pulled = ratio.exp().mul_(-self.alpha).add_(ratio).mul_(probability)
        value = ratio.mul_(probability).sum(-1)
        total = pulled.sum(-1, keepdim=True)
        return at_least_zero(value), pulled.addcmul_(probability, total, value=-1)
