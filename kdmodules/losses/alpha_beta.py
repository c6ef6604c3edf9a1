"""Alpha-beta divergence of ABKD (Wang et al. 2025), after Cichocki, Cruces and Amari (2011)."""

import torch
from torch import Tensor

from common.errors import UserError
from kdmodules.losses.divergence import KDLoss, ValuesAndGrad, at_least_zero, project_to_logits


class AlphaBeta(KDLoss):
    """Alpha-beta divergence, no unit in general; nats where alpha + beta is 1.

    `D = -1/(ab) sum_v [p^a q^b - a/(a+b) p^(a+b) - b/(a+b) q^(a+b)]`, continued to a = 0 and b = 0
    (Cichocki et al. 2011, eq. 20). (1, 0) is the forward KL, (0, 1) the reverse KL, (0.5, 0.5) four
    times the squared Hellinger distance, and b = 1 - a the alpha divergences. Larger alpha lets the
    teacher's likely tokens count for more, larger beta the student's. ABKD's code divides by s
    where the limit for exponents s and 0 has s squared: s times this, the same at s = 1 alone.

    Args:
        alpha: At least 0; ABKD's instruction setting is 0.2.
        beta: At least 0 and not 0 together with alpha; ABKD's instruction setting is 0.7.

    Raises:
        UserError: A value is out of range.
    """

    def __init__(self, alpha: float = 0.2, beta: float = 0.7) -> None:
        super().__init__()
        if not (alpha >= 0 and beta >= 0 and alpha + beta > 0):
            raise UserError(f"alpha {alpha}, beta {beta}: give two numbers >= 0, one above 0")
        self.alpha, self.beta = alpha, beta
        self.needs_teacher_support = alpha == 0

    def per_token(self, student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
        """Divergence per token; shapes as `KDLoss.per_token`."""
        a, b = self.alpha, self.beta
        if b == 0:
            return at_least_zero(_continued(teacher_logp, student_logp, a))
        if a == 0:
            return at_least_zero(_continued(student_logp, teacher_logp, b))
        mixed = (a * teacher_logp + b * student_logp).exp()
        teacher, student = ((a + b) * teacher_logp).exp(), ((a + b) * student_logp).exp()
        inner = (a * teacher + b * student) / (a + b) - mixed
        return at_least_zero(inner.sum(-1) / (a * b))

    def per_token_with_grad(self, student_logp: Tensor, teacher_logp: Tensor) -> ValuesAndGrad:
        """Divergence and its gradient by student logits.

        The gradient is `c - q sum(c)` with `c = (q^(a+b) - p^a q^b) / a`, for a = 0
        `c = q^b log(q/p)`.
        Shapes as `KDLoss.per_token_with_grad`.
        """
        a, b = self.alpha, self.beta
        value = self.per_token(student_logp, teacher_logp)
        if a == 0:
            pulled = (student_logp * b).exp_().mul_(student_logp - teacher_logp)
        else:
            mixed = torch.add(student_logp * b, teacher_logp, alpha=a).exp_()
            pulled = (student_logp * (a + b)).exp_().sub_(mixed).div_(a)
        return value, project_to_logits(pulled, student_logp)


def _continued(first_logp: Tensor, second_logp: Tensor, power: float) -> Tensor:
    """[N] `1/s^2 sum [f^s log(f^s / g^s) - f^s + g^s]`: the limit for exponents s and 0."""
    first, second = (power * first_logp).exp(), (power * second_logp).exp()
    gap = torch.where(first > 0, first_logp - second_logp, 0)
    return (power * first * gap - first + second).sum(-1) / power**2
