"""The optimiser and learning-rate schedule of every training stage."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, SequentialLR

from common.errors import UserError
from common.options import require_at_least, require_at_most, require_positive

_LARGEST_LR = 10.0
"""AdamW moves every weight by about the rate in a step: more is a slip of the exponent."""


@dataclass
class OptimizerSettings:
    """AdamW and its schedule.

    Attributes:
        lr: Peak learning rate.
        betas: AdamW's two decay rates of the moments.
        eps: AdamW's denominator offset.
        weight_decay: Decoupled decay, applied to matrices only: never to biases and norms.
        schedule: "cosine" falls from ``lr`` to ``final_lr`` over the run; "constant" stays.
        warmup_steps: Optimiser steps of linear warm-up before the schedule starts.
        final_lr: Where the cosine ends.
    """

    lr: float = 5e-5
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-2
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = 0
    final_lr: float = field(default=1e-7)

    def __post_init__(self) -> None:
        """Refuses what no training can mean.

        Raises:
            UserError: Naming the option.
        """
        where = "model.optimizer."
        require_positive(where, eps=self.eps)
        require_at_most(_LARGEST_LR, where, lr=self.lr)
        require_at_least(
            0,
            where,
            lr=self.lr,
            weight_decay=self.weight_decay,
            warmup_steps=self.warmup_steps,
            final_lr=self.final_lr,
        )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"{where}betas is {list(self.betas)}: give two from 0 to below 1")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Splits trainable parameters into those that decay and those that do not.

    Biases and the gains of norms are vectors, whatever their names and the classes that hold them;
    everything that multiplies (projections, embeddings, adapters) has two dimensions.

    Returns:
        Two groups for ``torch.optim``; an empty one is left out.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(
    model: nn.Module, settings: OptimizerSettings, fused: bool | None = None
) -> torch.optim.AdamW:
    """Builds AdamW over the trainable parameters of ``model``.

    Args:
        model: What is trained.
        settings: Its hyper-parameters.
        fused: Whether one kernel updates a parameter; None leaves the choice to PyTorch.
    """
    groups = parameter_groups(model, settings.weight_decay)
    return torch.optim.AdamW(
        groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=fused
    )


def keyed_by_model(
    state: dict[str, Any], optimizer: torch.optim.Optimizer, model: nn.Module
) -> dict[str, Any]:
    """Numbers an optimiser's state by the order of the model's parameters.

    PyTorch numbers parameters by their order in the groups, sharding strategies by their order in
    the model. Loading into a plain optimiser goes by the lists of the groups, whatever the numbers;
    a sharding strategy takes the numbers at their word.

    Args:
        state: ``optimizer.state_dict()``.
        optimizer: Whose state it is.
        model: Its ``parameters()`` are counted from 0, frozen ones included.

    Returns:
        The same state under other numbers.
    """
    order = {parameter: number for number, parameter in enumerate(model.parameters())}
    groups = zip(state["param_groups"], optimizer.param_groups, strict=True)
    number = {
        old: order[parameter]
        for saved, group in groups
        for old, parameter in zip(saved["params"], group["params"], strict=True)
    }
    return {
        "state": {number[old]: moments for old, moments in state["state"].items()},
        "param_groups": [
            {**group, "params": [number[old] for old in group["params"]]}
            for group in state["param_groups"]
        ],
    }


def build_schedule(
    optimizer: torch.optim.Optimizer, settings: OptimizerSettings, total_steps: int
) -> LRScheduler:
    """Builds the schedule, stepped once per optimiser step.

    Args:
        optimizer: What :func:`build_optimizer` returned.
        settings: The schedule's shape.
        total_steps: Optimiser steps of the whole run, warm-up included.

    Raises:
        UserError: If the warm-up is as long as the run.
    """
    warmup = settings.warmup_steps
    if warmup >= total_steps:
        raise UserError(
            f"optimizer.warmup_steps is {warmup} but the run has {total_steps} optimiser steps: "
            f"shorten the warm-up or train longer"
        )
    if settings.schedule == "constant":
        main: LRScheduler = LambdaLR(optimizer, lambda _: 1.0)
    else:
        main = CosineAnnealingLR(optimizer, T_max=total_steps - warmup, eta_min=settings.final_lr)
    if warmup == 0:
        return main
    ramp = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warmup))
    return SequentialLR(optimizer, [ramp, main], milestones=[warmup])
