"""The gradient of one unit's records, as differentially private training clips it."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from datamodules.batches import InstructionBatch
from kdmodules.models.causal_lm import CausalLM
from kdmodules.token_means import naming_records, record_sums

_ROWS = 16
"""Most records of a unit in one pass."""


def unit_gradient(
    lm: CausalLM,
    batch: InstructionBatch,
    rows: Sequence[int],
    parameters: Sequence[nn.Parameter],
    dropout: bool = True,
) -> tuple[list[Tensor | None], Tensor]:
    """Returns the gradient of the summed losses of a unit's records, and that sum.

    A record's loss is the mean over its own scored tokens, in nats. Gradients are taken by
    `torch.autograd.grad`: the chunked reduction forms the head's gradient in its forward and never
    calls the head as a module, so that per-sample gradients by hooks on modules do not see it.

    Args:
        lm: The model that is trained.
        batch: Holds the unit's records, padded on the right.
        rows: Where.
        parameters: What is trained.
        dropout: Whether the network's dropout is on.

    Returns:
        Gradients by parameter, None where the loss does not depend on one; a scalar.

    Raises:
        FloatingPointError: A loss is not finite, with the record's id.
    """
    total: list[Tensor | None] = [None] * len(parameters)
    value = torch.zeros((), device=parameters[0].device)
    for start in range(0, len(rows), _ROWS):
        part = batch.rows(rows[start : start + _ROWS])
        with naming_records(part), lm.in_step(dropout):
            loss = lm(partial(record_sums, batch=part))["loss"]
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        total = [_plus(*pair) for pair in zip(total, gradients, strict=True)]
        value += loss.detach()
    return total, value


def _plus(total: Tensor | None, more: Tensor | None) -> Tensor | None:
    if total is None or more is None:
        return more if total is None else total
    return total + more
