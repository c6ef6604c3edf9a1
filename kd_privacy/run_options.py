"""What the command line asks of a run, checked before a record is read or a weight is made."""

from jsonargparse import Namespace

from common.errors import UserError
from common.options import (
    require_at_least,
    require_at_most,
    require_folder,
    require_positive,
)

_LARGEST_SEED = 2**32 - 1
_FOR_EVER = -1
_MOST = 1024
"""Threads, or devices of one machine: a slip of the finger may ask for a million."""
_AT_LEAST = {
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
    "num_sanity_val_steps": -1,
}
"""Least value of each number of the trainer that Lightning takes at any."""


def check_seed(seed: object) -> None:
    """Refuses a seed that no generator takes; True draws one.

    Raises:
        UserError: Naming the option.
    """
    if not isinstance(seed, bool) and isinstance(seed, int) and not 0 <= seed <= _LARGEST_SEED:
        raise UserError(f"seed_everything is {seed}: give 0 to {_LARGEST_SEED:,}")


def check_run(config: Namespace) -> None:
    """Refuses folders, threads and trainers that no run can have.

    Args:
        config: Configuration of a subcommand.

    Raises:
        UserError: Naming the option.
    """
    require_folder("run_dir", config.run_dir)
    if config.weights_only is False:
        raise UserError("weights_only is false: a checkpoint is never read with the code it holds")
    if config.threads is not None:
        require_at_least(1, threads=config.threads)
        require_at_most(_MOST, threads=config.threads)
    trainer = config.trainer
    if str(trainer.devices).isdecimal():
        require_at_most(_MOST, "trainer.", devices=int(trainer.devices))
    for name, least in _AT_LEAST.items():
        if trainer[name] is not None:
            require_at_least(least, "trainer.", **{name: trainer[name]})
    if isinstance(trainer.val_check_interval, int | float):
        require_positive("trainer.", val_check_interval=trainer.val_check_interval)


def check_length(trainer: Namespace) -> None:
    """Refuses a fit without an end, or without a step.

    Raises:
        UserError: Naming the options.
    """
    lengths = {"max_epochs": trainer.max_epochs, "max_steps": trainer.max_steps}
    for name, length in lengths.items():
        if length not in (None, _FOR_EVER):
            require_at_least(1, "trainer.", **{name: length})
    if trainer.limit_train_batches == 0:
        raise UserError("trainer.limit_train_batches is 0: this fit has no step")
    if trainer.max_time is None and set(lengths.values()) <= {None, _FOR_EVER}:
        raise UserError(
            "this fit has no end: give trainer.max_epochs, trainer.max_steps or trainer.max_time, "
            "or a recipe that does, such as -c recipes/teacher/gpt2-mini"
        )
