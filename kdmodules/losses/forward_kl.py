"""Forward KL: word-level KD of Hinton et al. (2015) and of Kim and Rush (2016, section 3.1)."""

import torch
from torch import Tensor

from kdmodules.losses.divergence import KDLoss, at_least_zero, expectation


class ForwardKL(KDLoss):
    """KL(p||q) of teacher p and student q, in nats: +inf where p is positive and q exactly 0."""

    def per_token(self, student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
        """KL(p||q) per token; shapes as `KDLoss.per_token`."""
        return at_least_zero(expectation(teacher_logp, teacher_logp - student_logp))

    def per_token_with_grad(
        self, student_logp: Tensor, teacher_logp: Tensor
    ) -> tuple[Tensor, Tensor]:
        """KL(p||q) and its gradient by student logits, q - p; as `KDLoss.per_token_with_grad`."""
        probability = teacher_logp.exp()
        work = torch.sub(teacher_logp, student_logp).mul_(probability)
        value = work.sum(-1)
        return at_least_zero(value), torch.exp(student_logp, out=work).sub_(probability)
