"""What is known on disk about a cell: its state file, its lock, and whether its outputs are there.

A running cell's process holds the lock, and the kernel frees it however the process ends: a state
file that says `running` without a held lock is an interrupted cell.
"""

import contextlib
import json
import os
import platform
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from audits.results import SCHEMAS
from common.atomic_file import replacing
from common.errors import UserError
from common.lock import read_holder, try_lock
from common.own_files import read_json
from common.parquet_file import read_parquet, require_whole
from studies.plan.cells import Cell

State = Literal["pending", "running", "interrupted", "failed", "done"]
_RESULTS = "results.parquet"
GRACE_SECONDS = 20.0
"""Time that a process has to end after SIGTERM, before it is killed."""


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file so that readers see the old one or the new one."""
    with replacing(path) as file:
        file.write(json.dumps(value, indent=1, sort_keys=True).encode())


@dataclass(frozen=True)
class CellFiles:
    """The files of one cell."""

    cell: Cell

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return Path(self.cell.run_dir)

    @property
    def log(self) -> Path:
        """Standard output and error of every attempt."""
        return self.folder / "log.txt"

    def read(self) -> dict[str, object]:
        """Returns the state file's content; empty where there is none."""
        path = self.folder / "state.json"
        if not path.is_file():
            return {}
        return read_json(path, f"delete {self.folder}, and the cell runs anew")

    def write(self, state: State, facts: Mapping[str, object]) -> None:
        """Writes the state with its facts, replacing the former."""
        write_json(self.folder / "state.json", {"state": state, **facts})

    def state(self) -> State:
        """Returns the state, as the disk and the lock show it."""
        recorded = self.read().get("state")
        if recorded == "done":
            return "done" if not self.missing_outputs() else "pending"
        if recorded == "running":
            return "running" if self._locked() else "interrupted"
        return "failed" if recorded == "failed" else "pending"

    def missing_outputs(self) -> list[str]:
        """Returns which of the outputs that make a cell done are not there.

        Raises:
            UserError: One is there, cut short or altered.
        """
        missing = [f"{table}.parquet" for table in SCHEMAS if not self._has(f"{table}.parquet")]
        output = self.folder / self.cell.output
        if not (output.is_dir() and any(output.iterdir())):
            missing.append(f"{self.cell.output}/")
        return missing

    def resumable(self) -> bool:
        """Whether a former attempt left a checkpoint to go on from."""
        return (self.folder / "checkpoints" / "last.ckpt").exists()

    def clear(self) -> None:
        """Removes what an attempt without a checkpoint left: the next begins in an empty folder."""
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.name in ("log.txt", ".lock"):
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def lock(self, *, end_holder: bool) -> int | None:
        """Takes the cell's lock, for the cell's process to inherit.

        Args:
            end_holder: A process of the cell that still runs outlived its runner and is ended
                first: it would write into the same folder.

        Returns:
            The file descriptor; None where the lock is held and its holder is not to be ended.

        Raises:
            UserError: The holder runs on another machine, out of reach.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        if not try_lock(descriptor):
            if not end_holder:
                os.close(descriptor)
                return None
            self._end_orphan(descriptor)
        return descriptor

    def tail(self, lines: int) -> list[str]:
        """Returns the last lines of the log."""
        if not self.log.is_file():
            return []
        return self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]

    def _has(self, name: str) -> bool:
        path = self.folder / name
        if not path.is_file():
            return False
        # Results are few, and all that is said rests on them; the others are read where they count.
        check = read_parquet if name == _RESULTS else require_whole
        check(path, f"delete {self.folder}, and the cell runs anew")
        return True

    def _locked(self) -> bool:
        path = self.folder / ".lock"
        if not path.is_file():
            return False
        descriptor = os.open(path, os.O_RDWR)
        try:
            return not try_lock(descriptor)
        finally:
            os.close(descriptor)

    def _end_orphan(self, descriptor: int) -> None:
        group = read_holder(descriptor)
        host = self.read().get("host", platform.node())
        if host != platform.node():
            raise UserError(f"{self.cell.id} still runs on {host}, process group {group}: end it")
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)
            limit = time.monotonic() + GRACE_SECONDS
            while time.monotonic() < limit:
                if try_lock(descriptor):
                    return
                time.sleep(0.1)
        raise RuntimeError(f"process group {group} still holds {self.folder / '.lock'}")
