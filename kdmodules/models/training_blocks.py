"""How the blocks of a model run in a training step: their activations recomputed, their code fused.

Both change what a step costs and not what it computes, and neither is in force outside a step, so
that audits and sampling meet the blocks as they are. A step says that it is one
(:meth:`CausalLM.in_step`): the modes of the blocks do not, since a step may run without dropout.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from kdmodules.models.anatomy import transformer_blocks
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.modes import evaluation_mode

Forward = Callable[..., Any]


def prepare_blocks(
    lm: CausalLM, recomputed: bool, compiled: bool, backend: str | Callable[..., Any] = "inductor"
) -> None:
    """Sets how every block's forward pass runs within a training step.

    The hooks around a block stay outside: those of a sharded block gather its weights as often as
    without, and those that come later are seen.

    Args:
        lm: As it will train, after sharding; its parameters keep their names.
        recomputed: Keep a block's inputs and compute its activations again in the backward pass
            (Chen et al. 2016, arXiv 1604.06174). Random numbers are replayed and modes are those of
            the forward pass, so dropout falls as it did before.
        compiled: Compile it; blocks of one shape share the code.
        backend: Of ``torch.compile``.
    """
    if not (recomputed or compiled):
        return
    for block in transformer_blocks(lm.model):
        plain = block.forward
        trained: Forward = torch.compile(plain, backend=backend) if compiled else plain
        if recomputed:
            trained = partial(_recomputed, block, trained)
        vars(block)["forward"] = partial(_forward, lm, plain, trained)


def _recomputed(block: nn.Module, trained: Forward, *args: Any, **kwargs: Any) -> Any:
    dropout = block.training

    def in_the_mode_of_now(*args: Any, **kwargs: Any) -> Any:
        # The backward pass comes when the step has put the modes back.
        with evaluation_mode(block, entered=not dropout):
            return trained(*args, **kwargs)

    return checkpoint(in_the_mode_of_now, *args, use_reentrant=False, **kwargs)


def _forward(lm: CausalLM, plain: Forward, trained: Forward, *args: Any, **kwargs: Any) -> Any:
    return (trained if lm.stepping else plain)(*args, **kwargs)
