"""From the residual stream to a record's likelihood: final norm, head, mean over the response."""

import torch
from torch import Tensor

from datamodules.batches import InstructionBatch
from kdmodules.models.anatomy import head_inputs
from kdmodules.models.causal_lm import CausalLM
from kdmodules.scoring import UndefinedScoreError, token_statistics


def predicting_rows(states: Tensor, batch: InstructionBatch) -> Tensor:
    """Returns the rows [N, D] of states [B, T, D] that predict the batch's scored tokens."""
    return states[:, :-1][batch.response_mask[:, 1:]]


def record_means(values: Tensor, batch: InstructionBatch) -> Tensor:
    """Returns the mean of [N, ...] values over each record's scored tokens, [B, ...] float64."""
    index = batch.record_index()
    counts = torch.bincount(index, minlength=len(batch.record_ids)).to(values.device)
    total = torch.zeros(len(counts), *values.shape[1:], dtype=torch.float64, device=values.device)
    total.index_add_(0, index, values.double())
    return total / counts.view(-1, *[1] * (values.dim() - 1))


def mean_log_likelihood(lm: CausalLM, stream: Tensor, batch: InstructionBatch) -> Tensor:
    """Returns every record's mean log-probability per scored token, read from a residual stream.

    Args:
        lm: The model; its weights must be whole.
        stream: [N, D] at the rows that predict the scored tokens, before the final norm.
        batch: B records.

    Returns:
        [B] float64, nats.

    Raises:
        FloatingPointError: Naming the record whose distribution is not a number.
    """
    try:
        scores = token_statistics(head_inputs(lm.model, stream), lm.head, batch.targets())
    except UndefinedScoreError as error:
        record = batch.record_ids[int(batch.record_index()[error.row])]
        raise FloatingPointError(f"record {record} cannot be scored: {error}") from error
    return record_means(scores.logp, batch)
