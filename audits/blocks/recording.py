"""One forward pass that serves every signal that only reads what passes through the blocks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from audits.blocks.readout import predicting_rows
from audits.blocks.recorder import BlockCall, watching
from audits.blocks.signals.base import BlockStep, RecordedSignal
from audits.scoring.batches import over_batches
from audits.scoring.model_access import ModelAccess
from datamodules.batches import EncodedRecord, InstructionBatch
from kdmodules.models.anatomy import transformer_blocks
from kdmodules.models.causal_lm import CausalLM


def record_signals(
    access: ModelAccess, encoded: Sequence[EncodedRecord], signals: Sequence[RecordedSignal]
) -> list[Tensor]:
    """Returns what each signal reads of every record, [R, L, K] float64, in order.

    Memory holds the stream of one batch between two blocks, and the signals' own numbers.

    Args:
        access: The model, in evaluation mode.
        encoded: R records with at least one response token.
        signals: At least one.

    Raises:
        UserError: If the model's structure is unknown.
        FloatingPointError: Naming the record whose distribution is not a number.
    """
    widths: list[int] = []

    def compute(lm: CausalLM, batch: InstructionBatch) -> Tensor:
        found: list[Tensor] = []
        n_blocks = len(transformer_blocks(lm.model))

        def hook(block: int, call: BlockCall, output: Tensor) -> None:
            entered, left = (predicting_rows(one, batch) for one in (call.hidden, output))
            step = BlockStep(lm, batch, block, n_blocks, entered, left)
            numbers = [signal.read(step).double() for signal in signals]
            widths[:] = [one.shape[1] for one in numbers]
            found.append(torch.cat(numbers, dim=1))

        with watching(lm.model, hook):
            lm.states(batch.input_ids, batch.attention_mask)
        return torch.stack(found, dim=1)  # [B, L, sum of K]

    every = over_batches(access, encoded, "blocks: recording", compute)
    return list(every.split(widths, dim=2))
