"""How a run ends that is told to end: at once, with the status of the signal, on every rank."""

import os
import signal
import sys
import threading
from functools import partial
from types import FrameType

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.weights import RecoveryCheckpoint

TERMINATED = 128 + signal.SIGTERM
"""Exit status of a run that SIGTERM ended, as shells know it."""


class Interruption(Callback):
    """Ends a run on SIGTERM with status 143, and says how to go on, there and on Ctrl-C.

    Lightning's own handler tells the other ranks by a broadcast from within the handler, which
    waits for ever where they compute; and it ends with status 0, so that `fit && deploy` deploys.
    What a run has written is whole at any time, so this one ends on the spot: the other ranks end
    with their launcher or with their connection.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the place of Lightning's handler, which is registered by now."""
        self._listen(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Does so before a validation that stands alone."""
        self._listen(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Says how to go on after Ctrl-C, and after what is told in one line, as a full disk is."""
        if isinstance(exception, KeyboardInterrupt) and trainer.is_global_zero:
            sys.stderr.write(f"interrupted: {_going_on(trainer)}\n")
        exception.add_note(_going_on(trainer))

    @staticmethod
    def _listen(trainer: Trainer) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, partial(_terminate, trainer))


def _terminate(trainer: Trainer, signum: int, frame: FrameType | None) -> None:
    sys.stderr.write(f"terminated: {_going_on(trainer)}\n")
    sys.stderr.flush()
    if trainer.world_size > 1:
        # To unwind would wait for ranks that wait for this one.
        os._exit(TERMINATED)
    raise SystemExit(TERMINATED)


def _going_on(trainer: Trainer) -> str:
    if trainer.state.fn != "fit":
        return "nothing of this validation was written; the same command starts anew"
    if RecoveryCheckpoint.path(trainer).is_file():
        return "the same command with --ckpt_path last goes on from the last save"
    return "no checkpoint was saved yet; the same command starts anew"
