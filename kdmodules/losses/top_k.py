"""Truncation of the teacher to its most likely tokens, for any objective."""

from dataclasses import replace

import torch
from torch import Tensor

from common.errors import UserError
from kdmodules.losses.divergence import KDLoss, ValuesAndGrad, Wrapped
from kdmodules.losses.step import LOGP_FLOOR, Chunk


class TeacherTopK(Wrapped):
    """An objective against the teacher's k most likely tokens, renormalised to sum to 1.

    What the student could have learnt from the rest of the distribution never reaches it. With k =
    1 and forward KL this is the cross-entropy against the teacher's argmax, ImitKD's on the
    student's text (Lin et al. 2020; see `DatasetTargets`).

    Args:
        objective: Must stay finite where the teacher's probability is 0.
        k: Tokens kept per position, at least 1.

    Raises:
        UserError: `k` is below 1, or the objective would be infinite.
    """

    def __init__(self, objective: KDLoss, k: int) -> None:
        if k < 1:
            raise UserError(f"k is {k}: TeacherTopK keeps at least 1 token")
        if objective.needs_teacher_support:
            raise UserError(
                f"TeacherTopK makes {type(objective).__name__} infinite, because the teacher gives "
                "nothing outside its top k: take a forward_kl, skew or jsd objective"
            )
        super().__init__(objective)
        self.k = k

    def truncate(self, teacher_logp: Tensor) -> Tensor:
        """Log-probabilities of the truncated teacher.

        Args:
            teacher_logp: [N, V] log p.

        Returns:
            [N, V] renormalised, at most k finite per row in effect: the rest are so low that their
            exponential is exactly 0.
        """
        top, index = teacher_logp.topk(min(self.k, teacher_logp.shape[-1]), dim=-1)
        kept = torch.log_softmax(top, -1)
        return torch.full_like(teacher_logp, LOGP_FLOOR).scatter_(-1, index, kept)

    def per_token(self, student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
        """The objective against the truncated teacher; shapes as `KDLoss.per_token`."""
        return self.objective.per_token(student_logp, self.truncate(teacher_logp))

    def per_token_with_grad(self, student_logp: Tensor, teacher_logp: Tensor) -> ValuesAndGrad:
        """The same with its gradient; as `KDLoss.per_token_with_grad`."""
        return self.objective.per_token_with_grad(student_logp, self.truncate(teacher_logp))

    def chunk_values(self, chunk: Chunk) -> Tensor:
        """[len(terms), n] values of the wrapped objective."""
        truncated = self.truncate(chunk.teacher_logp)
        return self.objective.chunk_values(replace(chunk, teacher_logp=truncated))

    def chunk_values_with_grad(self, chunk: Chunk) -> ValuesAndGrad:
        """Values and gradient of the wrapped objective."""
        truncated = self.truncate(chunk.teacher_logp)
        return self.objective.chunk_values_with_grad(replace(chunk, teacher_logp=truncated))
