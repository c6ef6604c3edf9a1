"""A callback that kills its own process, as a machine that goes down would."""

import os
import signal
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Killer(Callback):
    """Sends SIGKILL to the process before a micro-batch.

    Args:
        before: Micro-batch of the whole run, from 0, that is never trained on.
    """

    def __init__(self, before: int) -> None:
        self.before = before

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx == self.before:
            os.kill(os.getpid(), signal.SIGKILL)
