"""What signals ask of the weights that they differentiate or disturb: float32, and whole or not."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from audits.membership.signals.weight_shards import gather_anew
from common.errors import UserError
from kdmodules.models.causal_lm import CausalLM, model_device


def named_weights(lm: CausalLM, signal: str, whole: bool = True) -> dict[str, nn.Parameter]:
    """Returns every parameter of the model by name, a tied head once, whether or not it trained.

    Args:
        lm: The audited model, between two passes.
        signal: Who asks, for the error.
        whole: Whether weights that are sharded over ranks are refused; otherwise each rank is given
            what it holds of them.

    Raises:
        UserError: If weights are sharded and must be whole, or are in less than float32:
            differences between losses of two nearby models drown in the rounding of bfloat16.
    """
    if not whole:
        # The root's own weights stay whole after a pass; their shards are what is asked for.
        gather_anew(lm)
    weights = dict(lm.model.named_parameters())
    for name, parameter in weights.items():
        if whole and isinstance(parameter, DTensor):
            raise UserError(
                f"{signal} needs whole weights and {name} is sharded: audit the exported model on "
                "one device, or with --trainer.strategy ddp"
            )
        if parameter.dtype not in (torch.float32, torch.float64):
            raise UserError(
                f"{signal} needs float32 weights and {name} is {parameter.dtype}: give "
                "--trainer.precision 32-true or bf16-mixed"
            )
    return weights


@contextmanager
def full_precision(lm: CausalLM) -> Iterator[None]:
    """Computes in the weights' own precision, whatever the trainer's autocast says."""
    with torch.autocast(model_device(lm).type, enabled=False):
        yield


@contextmanager
def differentiable(lm: CausalLM, weights: Sequence[nn.Parameter] = ()) -> Iterator[None]:
    """Lets a loss be differentiated for a while, whatever the caller forbids.

    Args:
        lm: The model, which computes in its weights' own precision meanwhile.
        weights: Weights by which it is differentiated; whether they train is given back.
    """
    trained = [weight.requires_grad for weight in weights]
    with torch.inference_mode(False), torch.enable_grad(), full_precision(lm):
        try:
            for weight in weights:
                weight.requires_grad_(True)
            yield
        finally:
            for weight, before in zip(weights, trained, strict=True):
                weight.requires_grad_(before)
