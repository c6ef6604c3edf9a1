"""One attempt at a cell, from its lock to its recorded outcome, on the machine it runs on."""

import contextlib
import importlib.metadata
import os
import platform
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from studies.plan.cells import Cell, thread_variables
from studies.run.cell_state import CellFiles, record_holder

__all__ = ["GRACE_SECONDS", "CellProcess", "Outcome"]

GRACE_SECONDS = 20.0
_RECORDED = ("torch", "lightning", "transformers", "datasets", "tokenizers", "numpy", "kd-privacy")


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        state: What the cell is now.
        seconds: Time that its process took.
        reason: Why it failed; empty where it did not.
    """

    state: Literal["done", "failed"]
    seconds: float
    reason: str = ""


class CellProcess:
    """The process of a cell, which has begun.

    Args:
        cell: The cell.
        program: Command that takes the cell's arguments.
        lock: The cell's lock (`CellFiles.lock`). The process inherits it, and it is kept here
            until the outcome is on disk, so that no other runner finds the cell free before.
    """

    def __init__(self, cell: Cell, program: Sequence[str], lock: int) -> None:
        self.files = CellFiles(cell)
        resume = ["--ckpt_path", "last"] if self.files.resumable() else []
        if not resume:
            self.files.clear()
        with self.files.log.open("ab") as log:
            log.write(f"$ {cell.command} {' '.join(resume)}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                [*program, *cell.arguments, *resume],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | thread_variables(cell.threads),
                pass_fds=(lock,),
                start_new_session=True,
                preexec_fn=lambda: record_holder(lock),
            )
        self.started = time.monotonic()
        self.facts: dict[str, object] = {
            "pid": self.process.pid,
            "host": platform.node(),
            "started": time.time(),
            "resumed": bool(resume),
            "command": cell.command,
        }
        self.files.write("running", self.facts)
        self.lock = lock

    def poll(self) -> Outcome | None:
        """Returns the outcome, recorded on disk, or None while the process runs."""
        status = self.process.poll()
        if status is None:
            return None
        outcome = self._record(status)
        os.close(self.lock)
        return outcome

    def _record(self, status: int) -> Outcome:
        seconds = time.monotonic() - self.started
        missing = self.files.missing_outputs() if status == 0 else []
        if status == 0 and not missing:
            self.files.write("done", self.facts | {"seconds": seconds, **_environment()})
            return Outcome("done", seconds)
        reason = f"ended without {', '.join(missing)}" if missing else f"exit status {status}"
        self.files.write("failed", self.facts | {"seconds": seconds, "reason": reason})
        return Outcome("failed", seconds, reason)

    def ask_to_end(self) -> None:
        """Sends SIGTERM to the process and what it started."""
        self._signal(signal.SIGTERM)

    def ensure_ended(self, limit: float) -> None:
        """Waits until a time of `time.monotonic`, then kills what still runs."""
        try:
            self.process.wait(max(0.0, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self.process.wait()
        os.close(self.lock)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def _environment() -> dict[str, object]:
    versions = {"python": platform.python_version()}
    for name in _RECORDED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "versions": versions,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}",
    }
