"""The data set's own tokens as targets on its own text, an objective on everything else."""

import torch
from torch import Tensor

from common.errors import UserError
from kdmodules.losses.divergence import KDLoss, ValuesAndGrad, Wrapped
from kdmodules.losses.step import Chunk, KDStep, LossSums


class DatasetTargets(Wrapped):
    """Cross-entropy on rows that kept the data set's response, an objective on the student's text.

    ImitKD by argmax (Lin et al. 2020, arXiv 2009.07253) asks the teacher about the student's text
    only: where its code (`generation/distillation.py`, `Seq2SeqDistillTrainer.sample`) leaves a row
    with the data set's context, it leaves the data set's next words as targets too. Its variant
    that takes the teacher's full distribution asks the teacher about every row, and is the plain
    objective without this.

    Args:
        objective: What the rows of student text are given.
    """

    required_extras = ("from_dataset",)

    def __init__(self, objective: KDLoss) -> None:
        super().__init__(objective)
        self.terms = (*objective.terms, "dataset_cross_entropy")

    def forward(self, step: KDStep) -> LossSums:
        """Sums over the scored tokens; `terms` has the objective's parts and the cross-entropy.

        Raises:
            UserError: The batch does not say whose text each row is, or the temperature is not 1.
            NonFiniteLossError: A token's loss is infinite or not a number.
        """
        if "from_dataset" not in step.extras:
            raise UserError(
                "DatasetTargets is not told which rows are the data set's: its response source "
                "must be MixedResponses"
            )
        if step.reduction.temperature != 1:
            raise UserError("DatasetTargets holds a cross-entropy: set temperature 1")
        return super().forward(step)

    def chunk_values(self, chunk: Chunk) -> Tensor:
        """[len(terms), n] values of the wrapped objective, then the cross-entropy."""
        return self._merged(chunk, self.objective.chunk_values(chunk))

    def chunk_values_with_grad(self, chunk: Chunk) -> ValuesAndGrad:
        """[len(terms), n] values and [n, V] gradient of their sum by student logits."""
        values, grad = self.objective.chunk_values_with_grad(chunk)
        from_dataset = _own_rows(chunk)
        supervised = chunk.student_logp.exp()
        targets = chunk.targets.unsqueeze(1)
        supervised.scatter_add_(1, targets, torch.full_like(targets, -1, dtype=supervised.dtype))
        return self._merged(chunk, values), torch.where(from_dataset.unsqueeze(1), supervised, grad)

    def _merged(self, chunk: Chunk, values: Tensor) -> Tensor:
        from_dataset = _own_rows(chunk)
        nats = -chunk.student_logp.gather(1, chunk.targets.unsqueeze(1)).squeeze(1)
        zero = torch.zeros_like(nats)
        return torch.cat(
            (torch.where(from_dataset, 0, values), torch.where(from_dataset, nats, zero)[None])
        )


def _own_rows(chunk: Chunk) -> Tensor:
    """[n] bool, True at tokens of the data set's own text."""
    return chunk.extras["from_dataset"].bool()
