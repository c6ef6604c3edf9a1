"""Kullback-Leibler divergences between teacher p and student q, and their weighted sum."""

import torch
from torch import Tensor

from common.options import require_share
from kdmodules.losses.divergence import KDLoss, ValuesAndGrad, at_least_zero, expectation


class ForwardKL(KDLoss):
    """KL(p||q) of teacher p and student q, in nats: +inf where p is positive and q exactly 0.

    Word-level KD of Hinton et al. (2015) and of Kim and Rush (2016, section 3.1).
    """

    def per_token(self, student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
        """KL(p||q) per token; shapes as `KDLoss.per_token`."""
        return at_least_zero(expectation(teacher_logp, teacher_logp - student_logp))

    def per_token_with_grad(self, student_logp: Tensor, teacher_logp: Tensor) -> ValuesAndGrad:
        """KL(p||q) and its gradient by student logits, q - p; as `KDLoss.per_token_with_grad`."""
        probability = teacher_logp.exp()
        work = torch.sub(teacher_logp, student_logp).mul_(probability)
        value = work.sum(-1)
        return at_least_zero(value), torch.exp(student_logp, out=work).sub_(probability)


class ReverseKL(KDLoss):
    """KL(q||p) of teacher p and student q, in nats: +inf where q is positive and p exactly 0.

    MiniLLM's divergence (Gu et al. 2024, eq. 1), here token by token.
    """

    needs_teacher_support = True

    def per_token(self, student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
        """KL(q||p) per token; shapes as `KDLoss.per_token`."""
        return at_least_zero(expectation(student_logp, student_logp - teacher_logp))

    def per_token_with_grad(self, student_logp: Tensor, teacher_logp: Tensor) -> ValuesAndGrad:
        """KL(q||p) and its gradient by student logits, q (log q - log p - KL).

        Shapes as `KDLoss.per_token_with_grad`.
        """
        probability = student_logp.exp()
        grad = torch.sub(student_logp, teacher_logp).mul_(probability)
        value = grad.sum(-1)
        return at_least_zero(value), grad.addcmul_(probability, value.unsqueeze(-1), value=-1)


class SymmetricKL(KDLoss):
    """`(1 - weight) KL(p||q) + weight KL(q||p)`, in nats.

    Args:
        weight: Weight of the reverse KL, in [0, 1]; Jeffreys' divergence is twice weight 0.5.

    Raises:
        UserError: `weight` is out of range.
    """

    def __init__(self, weight: float = 0.5) -> None:
        super().__init__()
        require_share(weight=weight)
        self.weight = weight
        self.needs_teacher_support = weight > 0
        limits: dict[float, KDLoss] = {0.0: ForwardKL(), 1.0: ReverseKL()}
        self.limit = limits.get(weight)

    def per_token(self, student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
        """Divergence per token; shapes as `KDLoss.per_token`."""
        if self.limit is not None:
            return self.limit.per_token(student_logp, teacher_logp)
        forward = expectation(teacher_logp, teacher_logp - student_logp)
        reverse = expectation(student_logp, student_logp - teacher_logp)
        return at_least_zero((1 - self.weight) * forward + self.weight * reverse)

    def per_token_with_grad(self, student_logp: Tensor, teacher_logp: Tensor) -> ValuesAndGrad:
        """Divergence and its gradient by student logits, the weighted sum of both KLs' gradients.

        Shapes as `KDLoss.per_token_with_grad`.
        """
        if self.limit is not None:
            return self.limit.per_token_with_grad(student_logp, teacher_logp)
        student, teacher = student_logp.exp(), teacher_logp.exp()
        gap = torch.sub(student_logp, teacher_logp)
        forward = -torch.linalg.vecdot(teacher, gap)
        grad = gap.mul_(student)
        reverse = grad.sum(-1)
        grad.addcmul_(student, reverse.unsqueeze(-1), value=-1).mul_(self.weight)
        grad.add_(student.sub_(teacher), alpha=1 - self.weight)
        return at_least_zero((1 - self.weight) * forward + self.weight * reverse), grad
