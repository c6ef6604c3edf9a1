"""Which validation of a fit is the last one that its options plan."""

from lightning.pytorch import Trainer

from callbacks.final_validation import FinalValidation, stops_early


def is_last_validation(trainer: Trainer) -> bool:
    """Tells, at the end of a validation, whether the fit plans no later one.

    Known beforehand from epochs, steps and the rhythm of validations, so that no audit's result
    decides it. A validation that stands alone is the last. With `FinalValidation` the end of the
    fit is validated, whatever the rhythm, also where a callback stops it early (``EarlyStopping``,
    ``max_time``), which no audit has a say in.

    Args:
        trainer: A trainer that has just validated.
    """
    if trainer.state.fn != "fit" or trainer.global_step == trainer.max_steps:
        return True
    per_epoch = trainer.num_training_batches
    in_epoch = trainer.fit_loop.epoch_loop.batch_idx + 1
    here = trainer.current_epoch * per_epoch + in_epoch
    end = _end(trainer, here)
    if any(isinstance(one, FinalValidation) for one in getattr(trainer, "callbacks", [])):
        return here >= end or stops_early(trainer)
    return _next_validation(trainer, here, in_epoch) > end


def _next_validation(trainer: Trainer, here: float, in_epoch: int) -> float:
    """Batches of the fit before its next validation."""
    every_epochs, every_batches = trainer.check_val_every_n_epoch, trainer.val_check_batch
    if every_batches is None:
        return float("inf")
    if every_epochs is None or in_epoch + every_batches <= trainer.num_training_batches:
        return here + every_batches
    epoch = trainer.current_epoch + every_epochs
    return epoch * trainer.num_training_batches + every_batches


def _end(trainer: Trainer, here: float) -> float:
    """Batches of the fit, at most: an epoch's last step may take fewer than others."""
    ends = []
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        ends.append(trainer.max_epochs * trainer.num_training_batches)
    if trainer.max_steps >= 0:
        left = trainer.max_steps - trainer.global_step
        ends.append(here + left * trainer.accumulate_grad_batches)
    return min(ends, default=float("inf"))
