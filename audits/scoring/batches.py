"""Runs a computation over the batches of a record set, each record once, on any number of ranks."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from audits.scoring.model_access import ModelAccess
from datamodules.batches import EncodedRecord, InstructionBatch, collate, length_buckets
from kdmodules.models.causal_lm import CausalLM, model_device

Result = TypeVar("Result")
BatchComputation = Callable[[CausalLM, InstructionBatch], Tensor]


def run_batches(
    access: ModelAccess,
    lengths: Sequence[int],
    label: str,
    run: Callable[[CausalLM, Sequence[int]], list[Result]],
) -> list[Result]:
    """Runs a function on batches of records of similar length.

    Batches are cut over all records before they are dealt to ranks, as in ``score_records``.

    Args:
        access: The model.
        lengths: Tokens of each record.
        label: Name of the progress bar.
        run: From the model, entered at its root, and the places of records to their results.

    Returns:
        One result per record, in order, whole on every rank.
    """
    buckets = length_buckets(lengths, access.batch_size, access.max_batch_tokens)
    mine = access.ranks.share(buckets)
    found: list[list[tuple[int, Result]]] = []
    with access.progress(label, len(mine)) as advance:
        for bucket in mine:
            results = access.lm(lambda lm, places=bucket: run(lm, places))
            found.append(list(zip(bucket, results, strict=True)))
            advance()
    by_place = dict(pair for part in access.ranks.gather(found) for pair in part)
    return [by_place[place] for place in range(len(lengths))]


def over_batches(
    access: ModelAccess,
    encoded: Sequence[EncodedRecord],
    label: str,
    compute: BatchComputation,
) -> Tensor:
    """Returns what a computation says of every record.

    It enters through the model's root forward, batch by batch, as :func:`run_batches` does.

    Args:
        access: The model, in evaluation mode.
        encoded: R records with at least one response token.
        label: Name of the progress bar.
        compute: From the model and a batch of B records to [B, ...] numbers.

    Returns:
        [R, ...] float64 on the CPU, in the order of ``encoded``, whole on every rank.
    """

    def run(lm: CausalLM, places: Sequence[int]) -> list[Tensor]:
        batch = collate([encoded[place] for place in places], access.encoder.pad_id)
        return list(compute(lm, batch.to(model_device(access.lm))).double().cpu())

    return torch.stack(run_batches(access, [len(record) for record in encoded], label, run))
