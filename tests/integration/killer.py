"""A callback that ends its own process, as a machine that goes down or a defect would."""

import errno
import os
import signal
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Killer(Callback):
    """Sends a signal to the process before a micro-batch, or raises an error there.

    Args:
        before: Micro-batch of the whole run, from 0, that is never trained on.
        rank: The only rank that this happens to.
        error: Text of a RuntimeError that is raised instead.
        full: Raises what a disk without room makes of a write instead.
        sends: Name of the signal.
    """

    def __init__(
        self,
        before: int,
        rank: int = 0,
        error: str | None = None,
        sends: str = "SIGKILL",
        full: bool = False,
    ) -> None:
        self.before = before
        self.rank = rank
        self.error = error
        self.sends = sends
        self.full = full

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        due = trainer.fit_loop.epoch_loop.total_batch_idx == self.before
        if due and trainer.global_rank == self.rank:
            if self.error is not None:
                raise RuntimeError(self.error)
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.kill(os.getpid(), signal.Signals[self.sends])
