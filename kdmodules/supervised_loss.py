"""The loss of a network on what a batch's records answer."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from datamodules.batches import InstructionBatch
from kdmodules.losses import KDStep, NonFiniteLossError, cross_entropy
from kdmodules.models.causal_lm import CausalLM


def supervised_sums(lm: CausalLM, batch: InstructionBatch) -> dict[str, Tensor]:
    """Returns the summed cross-entropy of a batch's scored tokens in nats, and their number."""
    step = KDStep(
        student_hidden=lm.hidden(batch),
        student_weight=lm.head_weight,
        targets=batch.targets(),
        record_index=batch.record_index(),
        vocabulary_size=lm.vocabulary_size,
    )
    return {"loss": cross_entropy(step).total, "tokens": batch.response_mask.sum()}


@contextmanager
def naming_records(batch: InstructionBatch) -> Iterator[None]:
    """Names the records behind a loss that is not finite.

    Raises:
        FloatingPointError: In place of the reduction's error, with record ids.
    """
    try:
        yield
    except NonFiniteLossError as error:
        ids = [batch.record_ids[index] for index in error.records]
        raise FloatingPointError(f"records {', '.join(ids)}: {error}") from error
