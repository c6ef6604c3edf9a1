"""How far a model is from others, whole distribution for whole distribution, on given text."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audits.scoring.batches import over_batches
from audits.scoring.model_access import ModelAccess
from datamodules.batches import EncodedRecord, InstructionBatch
from kdmodules.losses import ForwardKL, HeadRows, KDLoss, KDStep
from kdmodules.models.causal_lm import CausalLM


def divergences(
    access: ModelAccess,
    others: Sequence[CausalLM],
    encoded: Sequence[EncodedRecord],
    label: str,
    objective: KDLoss | None = None,
) -> NDArray[np.float64]:
    """Returns each record's divergence of a model from others, summed over its response tokens.

    Args:
        access: The model and how to work on it.
        others: Models of its tokens, on the same device; the mean of their probabilities counts.
        encoded: B records with at least one response token.
        label: Name of the progress bar.
        objective: Which divergence, with the model as student and the others as teachers; None is
            KL(others || model).

    Returns:
        [B] nats, whole on every rank.

    Raises:
        FloatingPointError: If a distribution is not a number.
    """

    def compute(lm: CausalLM, batch: InstructionBatch) -> Tensor:
        return _batch_divergences(lm, others, batch, objective or ForwardKL())

    return over_batches(access, encoded, label, compute).numpy()


def _batch_divergences(
    model: CausalLM, others: Sequence[CausalLM], batch: InstructionBatch, objective: KDLoss
) -> Tensor:
    """Returns the divergence of each record, [B], from within the model's root."""

    def rows(lm: CausalLM) -> HeadRows:
        return lm.hidden(batch), lm.head

    theirs = [other(rows) for other in others]
    lengths = batch.response_mask.sum(dim=1).tolist()
    hidden, head = rows(model)
    columns = [hidden, batch.targets(), *(states for states, _ in theirs)]
    parts = zip(*(column.split(lengths) for column in columns), strict=True)
    sums = [
        objective(
            KDStep(
                student_hidden=states,
                student_weight=head,
                targets=targets,
                teachers=[(one, own) for one, (_, own) in zip(given, theirs, strict=True)],
                vocabulary_size=model.vocabulary_size,
            )
        ).kd_sum
        for states, targets, *given in parts
    ]
    return torch.stack(sums)
