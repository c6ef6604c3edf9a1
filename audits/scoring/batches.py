"""Runs a computation over the batches of a record set, each record once, on any number of ranks."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from audits.scoring.model_access import ModelAccess
from datamodules.batches import EncodedRecord, InstructionBatch, collate, length_buckets
from kdmodules.models.causal_lm import CausalLM, model_device

BatchComputation = Callable[[CausalLM, InstructionBatch], Tensor]


def over_batches(
    access: ModelAccess,
    encoded: Sequence[EncodedRecord],
    label: str,
    compute: BatchComputation,
) -> Tensor:
    """Returns what a computation says of every record.

    It enters through the model's root forward, batch by batch; batches are cut over all records
    before they are dealt to ranks, as in ``score_records``.

    Args:
        access: The model, in evaluation mode.
        encoded: R records with at least one response token.
        label: Name of the progress bar.
        compute: From the model and a batch of B records to [B, ...] numbers.

    Returns:
        [R, ...] float64 on the CPU, in the order of ``encoded``, whole on every rank.
    """
    lengths = [len(record) for record in encoded]
    buckets = length_buckets(lengths, access.batch_size, access.max_batch_tokens)
    mine = access.ranks.share(buckets)
    found: list[Tensor] = []
    with access.progress(label, len(mine)) as advance:
        for bucket in mine:
            batch = collate([encoded[index] for index in bucket], access.encoder.pad_id)
            own = batch.to(model_device(access.lm))
            found.append(access.lm(lambda lm, own=own: compute(lm, own)).double().cpu())
            advance()
    every = torch.cat(access.ranks.gather(found)[: len(buckets)])
    places = torch.tensor([index for bucket in buckets for index in bucket])
    return every[places.argsort()]
