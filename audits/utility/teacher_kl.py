"""How far a student is from its teacher on records that neither trained on."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audits.scoring.batches import over_batches
from audits.scoring.model_access import ModelAccess
from datamodules.batches import EncodedRecord, InstructionBatch
from kdmodules.losses import ForwardKL, HeadRows, KDStep
from kdmodules.models.causal_lm import CausalLM


def teacher_divergences(
    student: ModelAccess, teachers: Sequence[CausalLM], encoded: Sequence[EncodedRecord]
) -> NDArray[np.float64]:
    """Returns each record's KL(teacher || student), summed over its response tokens.

    Leaking less than another student means something only beside this: a
    student that is far from its teacher has learnt less of everything.

    Args:
        student: The student and how to work on it.
        teachers: Its teachers, on the same device; the mean of their probabilities teaches.
        encoded: B records with at least one response token.

    Returns:
        [B] nats, whole on every rank.

    Raises:
        FloatingPointError: If a distribution is not a number.
    """

    def compute(lm: CausalLM, batch: InstructionBatch) -> Tensor:
        return _batch_divergences(lm, teachers, batch)

    return over_batches(student, encoded, "utility: distance from the teacher", compute).numpy()


def _batch_divergences(
    student: CausalLM, teachers: Sequence[CausalLM], batch: InstructionBatch
) -> Tensor:
    """Returns the divergence of each record, [B], from within the student's root."""

    def rows(lm: CausalLM) -> HeadRows:
        return lm.hidden(batch), lm.head

    taught = [teacher(rows) for teacher in teachers]
    lengths = batch.response_mask.sum(dim=1).tolist()
    objective = ForwardKL()
    hidden, head = rows(student)
    columns = [hidden, batch.targets(), *(states for states, _ in taught)]
    parts = zip(*(column.split(lengths) for column in columns), strict=True)
    sums = [
        objective(
            KDStep(
                student_hidden=states,
                student_weight=head,
                targets=targets,
                teachers=[(one, own) for one, (_, own) in zip(theirs, taught, strict=True)],
                vocabulary_size=student.vocabulary_size,
            )
        ).kd_sum
        for states, targets, *theirs in parts
    ]
    return torch.stack(sums)
