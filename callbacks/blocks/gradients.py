"""Differentiating a model inside an audit, which runs without gradients."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from callbacks.membership.signals.weights import full_precision
from kdmodules.causal_lm import CausalLM


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
