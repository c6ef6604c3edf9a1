"""How far a student is from its teacher on records that neither trained on."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from audits.scoring.scoring_pass import Progress
from common.ranks import Ranks
from datamodules.batches import EncodedRecord, InstructionBatch, collate, length_buckets
from kdmodules.losses import ForwardKL, KDStep
from kdmodules.models.causal_lm import CausalLM, model_device

Rows = tuple[Tensor, Tensor]


def teacher_divergences(
    student: CausalLM,
    teachers: Sequence[CausalLM],
    encoded: Sequence[EncodedRecord],
    pad_id: int,
    ranks: Ranks,
    batch_size: int,
    max_batch_tokens: int,
    progress: Progress,
) -> NDArray[np.float64]:
    """Returns each record's KL(teacher || student), summed over its response tokens.

    Leaking less than another student means something only beside this: a
    student that is far from its teacher has learnt less of everything.

    Args:
        student: The student, in evaluation mode.
        teachers: Its teachers, on the same device; the mean of their probabilities teaches.
        encoded: B records with at least one response token.
        pad_id: Token id that fills padding.
        ranks: This process among all.
        batch_size: Most records in a batch.
        max_batch_tokens: Most tokens in a batch with its padding.
        progress: Opens a bar of so many steps; called once.

    Returns:
        [B] nats, whole on every rank.

    Raises:
        FloatingPointError: If a distribution is not a number.
    """
    buckets = length_buckets([len(one) for one in encoded], batch_size, max_batch_tokens)
    mine = ranks.share(buckets)
    found: list[list[float]] = []
    with progress(len(mine)) as advance:
        for bucket in mine:
            batch = collate([encoded[place] for place in bucket], pad_id).to(model_device(student))
            found.append(_batch_divergences(student, teachers, batch))
            advance()
    sums = np.zeros(len(encoded))
    for bucket, part in zip(buckets, ranks.gather(found)[: len(buckets)], strict=True):
        sums[bucket] = part
    return sums


def _batch_divergences(
    student: CausalLM, teachers: Sequence[CausalLM], batch: InstructionBatch
) -> list[float]:
    def rows(lm: CausalLM) -> Rows:
        return lm.hidden(batch), lm.head_weight

    taught = [teacher(rows) for teacher in teachers]
    lengths = batch.response_mask.sum(dim=1).tolist()
    objective = ForwardKL()

    def compute(lm: CausalLM) -> list[float]:
        hidden, weight = rows(lm)
        columns = [hidden, batch.targets(), *(own for own, _ in taught)]
        parts = zip(*(column.split(lengths) for column in columns), strict=True)
        return [
            objective(
                KDStep(
                    student_hidden=own,
                    student_weight=weight,
                    targets=targets,
                    teachers=[(one, head) for one, (_, head) in zip(theirs, taught, strict=True)],
                    vocabulary_size=lm.vocabulary_size,
                )
            ).kd_sum.item()
            for own, targets, *theirs in parts
        ]

    return student(compute)
