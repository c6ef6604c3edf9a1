"""Sums over the scored tokens of a batch, kept until the whole global batch is known."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from datamodules.batches import InstructionBatch
from kdmodules.losses import KDStep, NonFiniteLossError, Reduction, TeacherRows, cross_entropy
from kdmodules.models.causal_lm import CausalLM

_DEFAULT_REDUCTION = Reduction()
_BY_RECORD = Reduction(kd_ratio=0.0, normalisation="sequence")


class TokenSums:
    """Adds named sums of micro-batches and turns them into means over all ranks.

    Sums are kept in float64 on the device of the first one.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self._sums)

    def add(self, sums: Mapping[str, Tensor]) -> None:
        """Adds the sums of one micro-batch.

        Args:
            sums: Scalars by name, among them ``tokens``, the number of scored tokens, and
                ``sequences``, the number of responses, where the others are sums over those; the
                same names in every micro-batch.
        """
        for name, value in sums.items():
            total = value.detach().double()
            self._sums[name] = self._sums[name] + total if name in self._sums else total

    def means(
        self, reduce_sum: Callable[[Tensor], Tensor]
    ) -> tuple[dict[str, float], float, float]:
        """Returns every sum divided by what it is over, tokens or sequences; then starts anew.

        Args:
            reduce_sum: Adds a tensor over the ranks.

        Returns:
            Means by name, without the counts; the number that was divided by; scored tokens of all
            ranks. Without any scored token the means are 0.
        """
        names = sorted(self._sums)
        totals = reduce_sum(torch.stack([self._sums[name] for name in names])).tolist()
        self._sums = {}
        by_name = dict(zip(names, totals, strict=True))
        tokens = by_name.pop("tokens")
        divisor = by_name.pop("sequences", tokens)
        means = {name: total / max(divisor, 1.0) for name, total in by_name.items()}
        return means, divisor, tokens


def supervised_sums(lm: CausalLM, batch: InstructionBatch) -> dict[str, Tensor]:
    """Returns the summed cross-entropy of a batch's scored tokens in nats, and their number."""
    total = cross_entropy(scored_tokens(lm, batch)).total
    return {"loss": total, "tokens": batch.response_mask.sum()}


def record_sums(lm: CausalLM, batch: InstructionBatch) -> dict[str, Tensor]:
    """Returns the sum over records of their token-mean cross-entropy in nats, and the tokens."""
    total = cross_entropy(scored_tokens(lm, batch, reduction=_BY_RECORD)).total
    return {"loss": total, "tokens": batch.response_mask.sum()}


def scored_tokens(
    lm: CausalLM,
    batch: InstructionBatch,
    teachers: TeacherRows = (),
    reduction: Reduction = _DEFAULT_REDUCTION,
    progress: float = 0.0,
) -> KDStep:
    """Returns a batch's scored tokens as the objectives take them.

    Args:
        lm: The model that is trained; its trunk runs here.
        batch: Records.
        teachers: Each teacher at the scored tokens.
        reduction: Weights, temperature and normalisation.
        progress: Fraction of training done, in [0, 1].
    """
    return KDStep(
        student_hidden=lm.hidden(batch),
        student_weight=lm.padded_head,
        targets=batch.targets(),
        teachers=teachers,
        extras=batch.token_extras(),
        record_index=batch.record_index(),
        vocabulary_size=lm.vocabulary_size,
        progress=progress,
        reduction=reduction,
    )


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
