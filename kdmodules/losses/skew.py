"""Divergences from a mixture of teacher and student: skew KLs and Jensen-Shannon."""

from math import log

import torch
from torch import Tensor

from common.options import require_share
from kdmodules.losses.divergence import (
    KDLoss,
    ValuesAndGrad,
    at_least_zero,
    expectation,
    project_to_logits,
)
from kdmodules.losses.kl import ForwardKL, ReverseKL
from kdmodules.losses.step import LOGP_FLOOR


class SkewForwardKL(KDLoss):
    """`KL(p || alpha p + (1 - alpha) q)` in nats, at most -log alpha.

    DistiLLM's (Ko et al. 2024, eq. 3). alpha = 0 is the forward KL; at alpha = 1
    nothing is left of the student and the value is 0.

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

    def per_token_with_grad(self, student_logp: Tensor, teacher_logp: Tensor) -> ValuesAndGrad:
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


class SkewReverseKL(KDLoss):
    """`KL(q || (1 - alpha) p + alpha q)` in nats, at most -log alpha.

    DistiLLM's (Ko et al. 2024, eq. 4). alpha = 0 is the reverse KL; at alpha = 1
    nothing is left of the teacher and the value is 0.

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

    def per_token_with_grad(self, student_logp: Tensor, teacher_logp: Tensor) -> ValuesAndGrad:
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


class JensenShannon(KDLoss):
    """`beta KL(p||m) + (1 - beta) KL(q||m)`, `m = beta p + (1 - beta) q`, in nats.

    GKD's objective (Agarwal et al. 2024, eq. 1), bounded by the entropy of (beta, 1 - beta). GKD
    defines 0 < beta < 1. The ends are, as in TRL,
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

    def per_token_with_grad(self, student_logp: Tensor, teacher_logp: Tensor) -> ValuesAndGrad:
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


def log_mixture(student_logp: Tensor, teacher_logp: Tensor, teacher_share: float) -> Tensor:
    """Log of `teacher_share p + (1 - teacher_share) q`, without leaving log space.

    Args:
        student_logp: [..., V] log q.
        teacher_logp: [..., V] log p.
        teacher_share: In [0, 1]; the ends return one of the two exactly.

    Returns:
        [..., V] a new tensor. Its gradient is finite where both are -inf.
    """
    if teacher_share in (0, 1):
        return (teacher_logp if teacher_share else student_logp).clone()
    shifted = teacher_logp + log(teacher_share / (1 - teacher_share))
    if student_logp.requires_grad or shifted.requires_grad:
        mixed = torch.logaddexp(shifted, student_logp.clamp(min=LOGP_FLOOR))
    else:
        mixed = torch.logaddexp(shifted, student_logp, out=shifted)
    return mixed.add_(log(1 - teacher_share))
