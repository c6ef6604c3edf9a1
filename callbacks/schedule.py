"""When a run validates and audits itself: how often, and at the end of a fit."""

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.run import callback_of
from common.errors import UserError


class AuditRhythm(Callback):
    """The rhythm of those audits of a run that have none of their own.

    A validation is cheap, and what follows the development loss needs many; an audit is not. So a
    recipe says how many validations lie between two audits, whatever audits are laid over it.

    Args:
        every_n_validations: Audits every n-th validation of a fit and the last one; 0, only that.

    Raises:
        UserError: It is negative.
    """

    def __init__(self, every_n_validations: int = 1) -> None:
        check_rhythm("audits.every_n_validations", every_n_validations)
        self.every_n_validations = every_n_validations


def audit_rhythm(trainer: Trainer) -> int:
    """Returns how many validations lie between two audits of the trainer's run; 0: all."""
    return (callback_of(trainer, AuditRhythm) or AuditRhythm()).every_n_validations


def check_rhythm(option: str, every_n_validations: int) -> None:
    """Refuses a negative number of validations.

    Raises:
        UserError: Naming the option.
    """
    if every_n_validations < 0:
        raise UserError(f"{option} is {every_n_validations}: give 0 or more")


class FinalValidation(Callback):
    """Validates the last weights of a fit that ends between two validations.

    The last weights are what is exported, so they are what must be audited; Lightning stops at
    ``max_steps``, and after ``max_epochs`` that its rhythm of validations does not divide, without
    looking at them. Where a callback stops the fit at the end of a validation, which was then not
    known to be the last one, it runs once more, for the audits that wait for that.
    """

    def __init__(self) -> None:
        self._validated = (-1, False)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers which weights are validated, and whether the fit was known to end there."""
        if not trainer.sanity_checking:
            self._validated = (trainer.global_step, stops_early(trainer))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Runs the validation loop where training has ended on weights that it has not seen."""
        last_step = trainer.fit_loop.epoch_loop.global_step == trainer.max_steps
        last_epoch = trainer.current_epoch + 1 == trainer.max_epochs
        early = stops_early(trainer) and not (last_step or last_epoch)
        step, known = self._validated
        seen = step == trainer.global_step and (known or not early)
        if seen or not (last_step or last_epoch or early):
            return
        trainer.validating = True
        trainer.fit_loop.epoch_loop.val_loop.run()
        trainer.training = True


def stops_early(trainer: Trainer) -> bool:
    """Tells whether a callback has stopped the fit, past ``min_epochs`` and ``min_steps``."""
    epochs, steps = trainer.min_epochs or 0, trainer.min_steps or 0
    enough = trainer.current_epoch + 1 >= epochs and trainer.global_step >= steps
    return trainer.should_stop and enough


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
    if callback_of(trainer, FinalValidation):
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
