"""How the blocks of a model run while it trains: their activations recomputed, their code fused.

Both change what a step costs and not what it computes, and neither is in force where the model is
in evaluation mode, so that audits and sampling meet the blocks as they are.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from kdmodules.families import blocks

Forward = Callable[..., Any]


def prepare_blocks(
    model: PreTrainedModel,
    recomputed: bool,
    compiled: bool,
    backend: str | Callable[..., Any] = "inductor",
) -> None:
    """Sets how every block's forward pass runs in training mode.

    The hooks around a block stay outside: those of a sharded block gather its weights as often as
    without, and those that come later are seen.

    Args:
        model: As it will train, after sharding; its parameters keep their names.
        recomputed: Keep a block's inputs and compute its activations again in the backward pass
            (Chen et al. 2016, arXiv 1604.06174). Random numbers are replayed, so dropout falls as
            it did before.
        compiled: Compile it; blocks of one shape share the code.
        backend: Of ``torch.compile``.
    """
    if not (recomputed or compiled):
        return
    for block in blocks(model):
        plain = block.forward
        trained: Forward = torch.compile(plain, backend=backend) if compiled else plain
        if recomputed:
            trained = partial(checkpoint, trained, use_reentrant=False)
        vars(block)["forward"] = partial(_forward, block, plain, trained)


def _forward(block: nn.Module, plain: Forward, trained: Forward, *args: Any, **kwargs: Any) -> Any:
    return (trained if block.training else plain)(*args, **kwargs)
