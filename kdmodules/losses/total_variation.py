"""Total variation distance, one of the objectives that the experiment compares."""

import torch
from torch import Tensor

from kdmodules.losses.divergence import KDLoss, ValuesAndGrad, project_to_logits


class TotalVariation(KDLoss):
    """`1/2 sum |p - q|`, in [0, 1]; a distance without a unit, summed like nats.

    Where p and q are equal for a token the derivative of the absolute value is taken as 0.
    """

    def per_token(self, student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
        """Distance per token; shapes as `KDLoss.per_token`."""
        return 0.5 * (student_logp.exp() - teacher_logp.exp()).abs().sum(-1)

    def per_token_with_grad(self, student_logp: Tensor, teacher_logp: Tensor) -> ValuesAndGrad:
        """Distance and its gradient by student logits, `c - q sum(c)`, `c = q sign(q - p) / 2`.

        Shapes as `KDLoss.per_token_with_grad`.
        """
        probability = student_logp.exp()
        gap = torch.exp(teacher_logp).neg_().add_(probability)
        value = gap.abs().sum(-1).mul_(0.5)
        pulled = gap.sign_().mul_(probability).mul_(0.5)
        return value, project_to_logits(pulled, student_logp)
