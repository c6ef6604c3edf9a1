"""Development text as it passes the blocks, for signals that are fitted before they audit."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from audits.blocks.readout import predicting_rows
from audits.blocks.recorder import BlockCall, watching
from audits.scoring.model_access import ModelAccess
from datamodules.batches import EncodedRecord, InstructionBatch, collate, length_buckets
from kdmodules.models.causal_lm import CausalLM, model_device


def development_streams(
    access: ModelAccess, encoded: Sequence[EncodedRecord], blocks: Sequence[int]
) -> dict[int, Tensor]:
    """Returns the residual stream behind some blocks at the rows that predict scored tokens.

    Every rank runs every batch, in step, and keeps the blocks that it asks for.

    Args:
        access: The model, in evaluation mode.
        encoded: Records with at least one response token, N in all.
        blocks: Indices of the blocks, each once.

    Returns:
        [N, D] by block in the model's type, on the CPU, in the records' order.
    """
    lengths = [len(record) for record in encoded]
    buckets = length_buckets(lengths, access.batch_size, access.max_batch_tokens)
    found: dict[int, dict[int, Tensor]] = {block: {} for block in blocks}
    with access.progress("blocks: development text", len(buckets)) as advance:
        for bucket in buckets:
            batch = collate([encoded[place] for place in bucket], access.encoder.pad_id)
            own = batch.to(model_device(access.lm))
            streams = access.lm(partial(_streams, batch=own, blocks=blocks))
            counts = batch.response_mask.sum(dim=1).tolist()
            for block, rows in zip(blocks, streams, strict=True):
                found[block] |= dict(zip(bucket, rows.cpu().split(counts), strict=True))
            advance()
    places = range(len(encoded))
    return {block: torch.cat([own[place] for place in places]) for block, own in found.items()}


def _streams(lm: CausalLM, batch: InstructionBatch, blocks: Sequence[int]) -> list[Tensor]:
    kept: dict[int, Tensor] = {}

    def keep(block: int, call: BlockCall, output: Tensor) -> None:
        if block in blocks:
            kept[block] = predicting_rows(output, batch)

    with watching(lm.model, keep):
        lm.states(batch.input_ids, batch.attention_mask)
    return [kept[block] for block in blocks]
