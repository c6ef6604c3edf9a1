"""A checkpoint to resume from, kept at optimiser-step boundaries."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from callbacks.run import run_folder
from common.atomic_file import beside, put_in_place


class RecoveryCheckpoint(Checkpoint):
    """Keeps ``checkpoints/last.ckpt``, so that a killed run resumes with ``--ckpt_path last``.

    Written after every ``save_every_n_steps`` optimiser steps and at the end of every epoch. Where
    a validation follows a step, as one does the last (`FinalValidation`), the save waits until its
    audits are on disk: a run that is killed in between repeats the steps since the last save and
    writes the same audits again.

    Args:
        save_every_n_steps: Optimiser steps between two saves; 0 saves at the end of epochs only.
    """

    def __init__(self, save_every_n_steps: int = 100) -> None:
        self.save_every_n_steps = save_every_n_steps
        self._saved_step = 0

    @staticmethod
    def path(trainer: Trainer) -> Path:
        """Returns where the checkpoint lies."""
        return run_folder(trainer) / "checkpoints" / "last.ckpt"

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Saves where an optimiser step that is due has just been taken."""
        due = self.save_every_n_steps > 0 and trainer.global_step % self.save_every_n_steps == 0
        if not due or trainer.global_step == self._saved_step:
            return
        loop = trainer.fit_loop.epoch_loop
        fetcher = trainer.fit_loop._data_fetcher
        validates = fetcher is not None and loop._should_check_val_fx(fetcher)
        ends = loop.batch_progress.is_last_batch or trainer.global_step == trainer.max_steps
        if validates or ends:
            return
        self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the end of the epoch, its validation included."""
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        # Lightning writes to the machine's temporary folder and moves the file, which is a copy
        # where the run lies on another file system: a kill would leave half of it.
        path = self.path(trainer)
        trainer.save_checkpoint(beside(path), weights_only=False)
        if trainer.is_global_zero:
            put_in_place(beside(path), path)
        self._saved_step = trainer.global_step
