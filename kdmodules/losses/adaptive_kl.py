"""Adaptive KL of Wu et al. (2025, "Rethinking KL divergence in KD for LLMs", section 4)."""

import torch
from torch import Tensor

from common.errors import UserError
from kdmodules.losses.divergence import KDLoss, ValuesAndGrad, at_least_zero, expectation


class AdaptiveKL(KDLoss):
    """Forward and reverse KL, weighted by where the student is wrong, in nats.

    The head is the smallest set of tokens that holds a share `mu` of the teacher's probability.
    `AKL = w KL(p||q) + (1 - w) KL(q||p)`, w the share of `sum |p - q|` that lies in the head,
    because early in training forward KL fits the head and reverse KL the tail. No gradient flows
    through w. The authors' code leaves out the token that crosses mu unless it is the first; the
    paper, followed here, keeps it. Where p = q, w is 1/2.

    Args:
        mu: Share of the teacher's probability in the head, in (0, 1); the paper's is 0.5.

    Raises:
        UserError: `mu` is out of range.
    """

    needs_teacher_support = True

    def __init__(self, mu: float = 0.5) -> None:
        super().__init__()
        if not 0 < mu < 1:
            raise UserError(f"mu is {mu}: give a number between 0 and 1")
        self.mu = mu

    def per_token(self, student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
        """Divergence per token; shapes as `KDLoss.per_token`."""
        weight = self.head_weight(student_logp.detach().exp(), teacher_logp.exp())
        forward = expectation(teacher_logp, teacher_logp - student_logp)
        reverse = expectation(student_logp, student_logp - teacher_logp)
        parts = torch.where(weight > 0, weight * forward, 0)
        return at_least_zero(parts + torch.where(weight < 1, (1 - weight) * reverse, 0))

    def per_token_with_grad(self, student_logp: Tensor, teacher_logp: Tensor) -> ValuesAndGrad:
        """Divergence and its gradient by student logits; as `KDLoss.per_token_with_grad`."""
        student, teacher = student_logp.exp(), teacher_logp.exp()
        weight = self.head_weight(student, teacher)
        gap = torch.sub(student_logp, teacher_logp)
        forward = -torch.linalg.vecdot(teacher, gap)
        grad = gap.mul_(student)
        reverse = grad.sum(-1)
        grad.addcmul_(student, reverse.unsqueeze(-1), value=-1).mul_(1 - weight.unsqueeze(-1))
        grad.addcmul_(student.sub_(teacher), weight.unsqueeze(-1))
        return at_least_zero(weight * forward + (1 - weight) * reverse), grad

    def head_weight(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Share of the absolute error that lies in the teacher's head.

        Args:
            student: [N, V] probabilities.
            teacher: [N, V] probabilities.

        Returns:
            [N] in [0, 1].
        """
        top, index = self._head(teacher)
        error = (teacher - student).abs_()
        in_head = torch.cumsum(top, -1).sub_(top) < self.mu
        head = (error.gather(-1, index) * in_head).sum(-1)
        total = error.sum(-1)
        return torch.where(total > 0, head / total.clamp(min=torch.finfo(total.dtype).tiny), 0.5)

    def _head(self, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """[N, k] largest probabilities and their tokens, k large enough for every row's head."""
        n_tokens = teacher.shape[-1]
        k = min(64, n_tokens)
        while True:
            top, index = teacher.topk(k, dim=-1)
            if k == n_tokens or bool((top.sum(-1) >= self.mu).all()):
                return top, index
            k = min(4 * k, n_tokens)
