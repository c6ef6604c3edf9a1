"""Weighted sum of forward and reverse KL, one of the objectives that the experiment compares."""

import torch
from torch import Tensor

from common.options import require_share
from kdmodules.losses.divergence import KDLoss, at_least_zero, expectation
from kdmodules.losses.forward_kl import ForwardKL
from kdmodules.losses.reverse_kl import ReverseKL


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

    def per_token_with_grad(
        self, student_logp: Tensor, teacher_logp: Tensor
    ) -> tuple[Tensor, Tensor]:
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
