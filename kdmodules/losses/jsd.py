"""Generalised Jensen-Shannon divergence: GKD's objective (Agarwal et al. 2024, eq. 1)."""

import torch
from torch import Tensor

from common.options import require_share
from kdmodules.losses.divergence import KDLoss, at_least_zero, expectation
from kdmodules.losses.forward_kl import ForwardKL
from kdmodules.losses.mixture import log_mixture
from kdmodules.losses.reverse_kl import ReverseKL


class JensenShannon(KDLoss):
    """`beta KL(p||m) + (1 - beta) KL(q||m)`, `m = beta p + (1 - beta) q`, in nats.

    Bounded by the entropy of (beta, 1 - beta). GKD defines 0 < beta < 1. The ends are, as in TRL,
    KL(p||q) at 0 and KL(q||p) at 1: the limits of jsd / beta and jsd / (1 - beta), not of jsd,
    which tends to 0. A sweep of beta therefore jumps at its ends. The experiment's GKD is beta =
    0.1.

    Args:
        beta: Weight of the teacher, in [0, 1].

    Raises:
        UserError: `beta` is out of range.
    """

    def __init__(self, beta: float = 0.5) -> None:
        super().__init__()
        require_share(beta=beta)
        self.beta = beta
        self.needs_teacher_support = beta == 1
        limits: dict[float, KDLoss] = {0.0: ForwardKL(), 1.0: ReverseKL()}
        self.limit = limits.get(beta)

    def per_token(self, student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
        """Divergence per token; shapes as `KDLoss.per_token`."""
        if self.limit is not None:
            return self.limit.per_token(student_logp, teacher_logp)
        mixed = log_mixture(student_logp, teacher_logp, self.beta)
        from_teacher = expectation(teacher_logp, teacher_logp - mixed)
        from_student = expectation(student_logp, student_logp - mixed)
        return at_least_zero(self.beta * from_teacher + (1 - self.beta) * from_student)

    def per_token_with_grad(
        self, student_logp: Tensor, teacher_logp: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Divergence and its gradient by student logits, (1 - beta) q (log q - log m - KL(q||m)).

        Shapes as `KDLoss.per_token_with_grad`.
        """
        if self.limit is not None:
            return self.limit.per_token_with_grad(student_logp, teacher_logp)
        mixed = log_mixture(student_logp, teacher_logp, self.beta)
        probability = teacher_logp.exp()
        work = torch.sub(teacher_logp, mixed).mul_(probability)
        from_teacher = work.sum(-1)
        torch.exp(student_logp, out=probability)
        grad = torch.sub(student_logp, mixed, out=mixed).mul_(probability)
        from_student = grad.sum(-1)
        grad.addcmul_(probability, from_student.unsqueeze(-1), value=-1)
        value = self.beta * from_teacher + (1 - self.beta) * from_student
        return at_least_zero(value), grad.mul_(1 - self.beta)
