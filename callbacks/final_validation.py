"""A validation, and with it the audits, of the last weights wherever training stops."""

from lightning.pytorch import Callback, LightningModule, Trainer


class FinalValidation(Callback):
    """Validates the last weights of a fit that ends between two validations.

    The last weights are what is exported, so they are what must be audited; Lightning stops at
    ``max_steps``, and after ``max_epochs`` that its rhythm of validations does not divide, without
    looking at them.
    """

    def __init__(self) -> None:
        self._validated_step = -1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers which weights have been validated."""
        if not trainer.sanity_checking:
            self._validated_step = trainer.global_step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Runs the validation loop where training has ended on weights that it has not seen."""
        last_step = trainer.fit_loop.epoch_loop.global_step == trainer.max_steps
        last_epoch = trainer.current_epoch + 1 == trainer.max_epochs
        ends = last_step or last_epoch or trainer.should_stop
        if not ends or self._validated_step == trainer.global_step:
            return
        trainer.validating = True
        trainer.fit_loop.epoch_loop.val_loop.run()
        trainer.training = True
