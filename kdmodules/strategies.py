"""Where a strategy of Lightning departs from what a step of this project counts on."""

from importlib.util import find_spec
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import (
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    Strategy,
)
from torch.distributed.fsdp import FullyShardedDataParallel

from common.errors import UserError


def require_package(strategy: object) -> None:
    """Refuses a strategy whose package is missing, before Lightning builds it.

    Args:
        strategy: ``trainer.strategy`` of a configuration: a name, a class path with arguments, or
            None.

    Raises:
        UserError: Saying what to install.
    """
    named = strategy if isinstance(strategy, str) else getattr(strategy, "class_path", "")
    if "deepspeed" in named.lower() and find_spec("deepspeed") is None:
        raise UserError(
            f"--trainer.strategy {named} needs the package deepspeed: run `pip install deepspeed`, "
            "or take configs/trainers/fsdp2.yaml, which needs no package"
        )


def keeps_gradients(trainer: Trainer) -> bool:
    """Tells whether the strategy shows no gradient between the backward pass and the update.

    DeepSpeed clips and applies gradients in buffers of its own, so that what a step divides by must
    be known before its backward pass.
    """
    return isinstance(trainer.strategy, DeepSpeedStrategy)


def saves_its_own_way(strategy: Strategy) -> bool:
    """Tells whether a strategy writes the optimiser's state itself, from all of its shards."""
    return isinstance(strategy, FSDPStrategy | ModelParallelStrategy | DeepSpeedStrategy)


def require_supported(trainer: Trainer) -> None:
    """Refuses options under which a strategy would train on other numbers than all others.

    Raises:
        UserError: DeepSpeed is to accumulate gradients, whose tokens are counted too late, or to
            take weights apart (stage 3), which hides the head from the objectives.
    """
    strategy = trainer.strategy
    if not isinstance(strategy, DeepSpeedStrategy):
        return
    if trainer.accumulate_grad_batches > 1:
        raise UserError(
            f"trainer.accumulate_grad_batches is {trainer.accumulate_grad_batches}: DeepSpeed "
            "cannot divide by the tokens of several micro-batches; set it to 1, or take "
            "configs/trainers/fsdp2.yaml"
        )
    if strategy.zero_stage_3:
        raise UserError(
            "DeepSpeed's stage 3 shows a weight only to the module that owns it, and the "
            "objectives read the head: take configs/trainers/fsdp2.yaml, which shards as much"
        )


def clip_fsdp_gradients(trainer: Trainer, norm: float | None) -> bool:
    """Clips gradients under Lightning's FSDPStrategy, which has no way to clip by norm.

    Args:
        trainer: The running trainer.
        norm: Greatest norm of all gradients together; None or 0 leaves them.

    Returns:
        Whether it is that strategy, and nothing is left to be done.
    """
    root: Any = trainer.strategy.model
    if not isinstance(trainer.strategy, FSDPStrategy) or not isinstance(
        root, FullyShardedDataParallel
    ):
        return False
    if norm:
        root.clip_grad_norm_(norm)
    return True
