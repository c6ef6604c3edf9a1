"""Ranks that end with the process that started them, whatever ends it."""

import os
import signal
import threading
import time

_POLL_SECONDS = 1.0
_GRACE_SECONDS = 5.0


def end_with_parent() -> None:
    """Kills this process some seconds after its parent has died.

    Lightning's launcher ends all ranks when one that it started dies, but nothing ends these when
    the first rank itself does: over gloo the next collective fails, over NCCL it waits for as
    long as the process group's timeout, minutes in which the GPUs stay taken.
    """
    parent = os.getppid()
    threading.Thread(target=_watch, args=(parent,), name="parent-watch", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    # A rank that notices by itself has time to say why it fails.
    time.sleep(_GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
