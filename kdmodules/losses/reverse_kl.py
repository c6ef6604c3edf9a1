"""Reverse KL: MiniLLM's divergence (Gu et al. 2024, eq. 1), here token by token."""

import torch
from torch import Tensor

from kdmodules.losses.divergence import KDLoss, at_least_zero, expectation


class ReverseKL(KDLoss):
    """KL(q||p) of teacher p and student q, in nats: +inf where q is positive and p exactly 0."""

    needs_teacher_support = True

    def per_token(self, student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
        """KL(q||p) per token; shapes as `KDLoss.per_token`."""
        return at_least_zero(expectation(student_logp, student_logp - teacher_logp))

    def per_token_with_grad(
        self, student_logp: Tensor, teacher_logp: Tensor
    ) -> tuple[Tensor, Tensor]:
        """KL(q||p) and its gradient by student logits, q (log q - log p - KL).

        Shapes as `KDLoss.per_token_with_grad`.
        """
        probability = student_logp.exp()
        grad = torch.sub(student_logp, teacher_logp).mul_(probability)
        value = grad.sum(-1)
        return at_least_zero(value), grad.addcmul_(probability, value.unsqueeze(-1), value=-1)
