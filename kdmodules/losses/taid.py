"""Temporally adaptive interpolated distillation (Shing et al. 2025, TAID, section 3)."""

from math import exp, isnan

import torch
from torch import Tensor

from common.errors import UserError
from kdmodules.losses.divergence import KDLoss, ValuesAndGrad
from kdmodules.losses.kl import ForwardKL


class TAID(KDLoss):
    """KL(p_t||q) in nats, p_t proportional to `q^(1-t) p^t` with q held fixed.

    The target moves from near the student to the teacher as t grows from `start` to `end`: at least
    linearly with training (`begin_step`), faster while the loss falls (`end_step`, algorithm 1 of
    the paper). t never falls. Without calls of `end_step` the schedule is the linear one.

    Args:
        start: t at the beginning, in [0, 1); the authors' scripts have 0.4 for Phi-3, and 0.2 for
            LLaMA-2 and StableLM.
        end: t at the end, in (start, 1].
        rate: Largest share of 1 - t that one optimiser step adds.
        momentum: Decay of the averaged relative change of the loss, in [0, 1).

    Raises:
        UserError: A value is out of range.
    """

    interpolation: Tensor
    trend: Tensor
    previous: Tensor

    def __init__(
        self, start: float = 0.4, end: float = 1.0, rate: float = 5e-4, momentum: float = 0.99
    ) -> None:
        super().__init__()
        if not 0 <= start < end <= 1:
            raise UserError(f"start {start}, end {end}: give 0 <= start < end <= 1")
        if not (0 <= rate <= 1 and 0 <= momentum < 1):
            raise UserError(f"rate {rate}, momentum {momentum}: give numbers from 0, below 1")
        self.start, self.end, self.rate, self.momentum = start, end, rate, momentum
        self.forward_kl = ForwardKL()
        for name, value in (("interpolation", start), ("trend", 0.0), ("previous", float("nan"))):
            self.register_buffer(name, torch.tensor(value, dtype=torch.float64))

    def begin_step(self, progress: float) -> None:
        """Raises t to the linear schedule's value at this fraction of training."""
        linear = self.start + (self.end - self.start) * progress
        self.interpolation.fill_(min(self.end, max(self.interpolation.item(), linear)))

    def end_step(self, mean_nats: float) -> None:
        """Raises t by the paper's adaptive step, from the relative fall of the loss.

        Args:
            mean_nats: Mean of this objective over the global batch, the same on every rank.
        """
        previous = self.previous.item()
        self.previous.fill_(mean_nats)
        if isnan(previous) or previous <= 0:
            return
        change = (previous - mean_nats) / previous
        self.trend.mul_(self.momentum).add_((1 - self.momentum) * change)
        now = self.interpolation.item()
        step = self.rate * (1 - now) / (1 + exp(-min(max(self.trend.item(), -50.0), 50.0)))
        self.interpolation.fill_(min(self.end, now + step))

    def per_token(self, student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
        """Divergence from the interpolated target; shapes as `KDLoss.per_token`."""
        target = self.target_logp(student_logp.detach(), teacher_logp)
        return self.forward_kl.per_token(student_logp, target)

    def per_token_with_grad(self, student_logp: Tensor, teacher_logp: Tensor) -> ValuesAndGrad:
        """The same and its gradient by student logits, q - p_t; as `KDLoss.per_token_with_grad`."""
        target = self.target_logp(student_logp, teacher_logp)
        return self.forward_kl.per_token_with_grad(student_logp, target)

    def target_logp(self, student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
        """Log of the interpolated target.

        Args:
            student_logp: [N, V] log q.
            teacher_logp: [N, V] log p.

        Returns:
            [N, V] log p_t; one of the two itself where t is 0 or 1.
        """
        t = self.interpolation.item()
        if t in (0, 1):
            return teacher_logp if t else student_logp
        mixed = torch.add(student_logp * (1 - t), teacher_logp, alpha=t)
        return torch.log_softmax(mixed, -1)
