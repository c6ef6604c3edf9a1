"""A validation, and with it the audits, of the last weights wherever training stops."""

from lightning.pytorch import Callback, LightningModule, Trainer


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
