"""Log-probabilities of a mixture of student and teacher."""

from math import log

import torch
from torch import Tensor

# Stands for -inf where a product with probability 0 must be 0; its exponential is exactly 0.
LOGP_FLOOR = -1e30


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
