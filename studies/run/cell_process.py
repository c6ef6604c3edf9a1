"""One attempt at a cell, from its lock to its recorded outcome, on the machine it runs on."""

import contextlib
import importlib.metadata
import os
import platform
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from common.lock import write_holder
from studies.plan.cells import Cell
from studies.run.cell_state import CellFiles

_POLL_SECONDS = 0.02
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


class Process(Protocol):
    """What a cell needs of its process, with the meanings of `subprocess.Popen`."""

    @property
    def pid(self) -> int:
        """Its id, and that of its process group."""

    def poll(self) -> int | None:
        """Returns the exit status; None while it runs."""


Starter = Callable[[Sequence[str], int, int], Process]
"""Starts the process of a cell in a session of its own, from the cell's arguments and the file
descriptors of its log and its lock; the process records itself as the lock's holder."""


def fresh_process(program: Sequence[str], environment: Mapping[str, str]) -> Starter:
    """Returns what starts a program anew for every cell.

    Args:
        program: Command that takes a cell's arguments.
        environment: The process's.
    """

    def start(arguments: Sequence[str], log: int, lock: int) -> Process:
        return subprocess.Popen(
            [*program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=(lock,),
            start_new_session=True,
            preexec_fn=lambda: write_holder(lock),
        )

    return start


class CellProcess:
    """The process of a cell, which has begun.

    Args:
        cell: The cell.
        start: Starts its process.
        lock: The cell's lock (`CellFiles.lock`). The process inherits it, and it is kept here
            until the outcome is on disk, so that no other runner finds the cell free before.
    """

    def __init__(self, cell: Cell, start: Starter, lock: int) -> None:
        self.files = CellFiles(cell)
        resume = ["--ckpt_path", "last"] if self.files.resumable() else []
        if not resume:
            self.files.clear()
        with self.files.log.open("ab") as log:
            log.write(f"$ {cell.command} {' '.join(resume)}\n".encode())
            log.flush()
            self.process = start([*cell.arguments, *resume], log.fileno(), lock)
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
        reason = f"ended without {', '.join(missing)}" if missing else _ending(status)
        self.files.write("failed", self.facts | {"seconds": seconds, "reason": reason})
        return Outcome("failed", seconds, reason)

    def ask_to_end(self) -> None:
        """Sends SIGTERM to the process and what it started."""
        self._signal(signal.SIGTERM)

    def ensure_ended(self, limit: float) -> None:
        """Waits until a time of `time.monotonic`, then kills what still runs."""
        while self.process.poll() is None:
            if time.monotonic() >= limit:
                self._signal(signal.SIGKILL)
            time.sleep(_POLL_SECONDS)
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


def _ending(status: int) -> str:
    """Says how a process ended.

    >>> _ending(2), _ending(-9)
    ('exit status 2', 'killed by SIGKILL, as where memory runs out')
    """
    if status >= 0:
        return f"exit status {status}"
    cause = ", as where memory runs out" if -status == signal.SIGKILL else ""
    return f"killed by {signal.Signals(-status).name}{cause}"
