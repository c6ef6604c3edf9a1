"""Runs a plan's cells: in dependency order, several at a time, resumable after any interruption."""

import contextlib
import fcntl
import importlib.metadata
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import FrameType, TracebackType

from datamodules.errors import UserError
from studies.cell_state import CellFiles, State, record_holder, write_json
from studies.plan import Cell, Plan, thread_variables
from studies.progress import Progress

__all__ = ["fit_program", "run_plan"]

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 20.0
_RECORDED = ("torch", "lightning", "transformers", "datasets", "tokenizers", "numpy", "kd-privacy")


@dataclass
class _Running:
    files: CellFiles
    process: subprocess.Popen[bytes]
    facts: dict[str, object]
    started: float


def fit_program() -> list[str]:
    """Returns the program that runs a cell: the `kd-privacy` of this Python's environment.

    Raises:
        UserError: It is not installed.
    """
    beside = str(Path(sys.executable).parent)
    found = shutil.which("kd-privacy", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if found is None:
        raise UserError(f"kd-privacy is not installed beside {sys.executable}: run `make install`")
    return [found]


def run_plan(
    plan: Plan, out: Path, *, workers: int, program: Sequence[str], progress: Progress
) -> bool:
    """Runs the cells that are not done yet.

    Args:
        plan: The cells.
        out: Folder of the study; gets `plan.json`.
        workers: Cells at a time.
        program: Command that takes a cell's arguments (`fit_program`).
        progress: Where changes are shown.

    Returns:
        Whether every cell is done. Failures do not stop the cells that do not need them.

    Raises:
        UserError: Another runner works on the same folder.
        KeyboardInterrupt: SIGINT or SIGTERM came; running cells were ended and can be resumed.
    """
    out.mkdir(parents=True, exist_ok=True)
    with _only_runner(out), _StopRequest() as stop:
        write_json(out / "plan.json", plan.as_dict())
        runner = _Runner(plan, workers, list(program), progress)
        try:
            runner.run(stop)
        finally:
            runner.end_running()
    return all(state == "done" for state in runner.states.values())


class _Runner:
    def __init__(self, plan: Plan, workers: int, program: list[str], progress: Progress) -> None:
        self.files = {cell.id: CellFiles(cell) for cell in plan.cells}
        self.workers = workers
        self.program = program
        self.progress = progress
        self.running: dict[str, _Running] = {}
        self.states: dict[str, State] = {key: files.state() for key, files in self.files.items()}
        self.tried: set[str] = set()
        for key, files in self.files.items():
            if self.states[key] == "done":
                progress.skipped(files.cell)

    def run(self, stop: "_StopRequest") -> None:
        while True:
            if stop.came:
                raise KeyboardInterrupt
            for cell in self._startable()[: self.workers - len(self.running)]:
                self._start(cell)
            if not self.running:
                break
            for key in [key for key, run in self.running.items() if run.process.poll() is not None]:
                self._finish(key)
            self.progress.tick()
            time.sleep(_POLL_SECONDS)
        for key, files in self.files.items():
            if key not in self.tried and self.states[key] != "done":
                self.progress.blocked(files.cell, self._unmet(files.cell))

    def end_running(self) -> None:
        """Ends what still runs, politely and then not."""
        for run in self.running.values():
            _signal(run.process, signal.SIGTERM)
        limit = time.monotonic() + _GRACE_SECONDS
        for key, run in self.running.items():
            try:
                run.process.wait(max(0.0, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(run.process, signal.SIGKILL)
                run.process.wait()
            self.states[key] = "interrupted"
            self.progress.interrupted(run.files.cell)
        self.running.clear()

    def _startable(self) -> list[Cell]:
        return [
            files.cell
            for key, files in self.files.items()
            if key not in self.tried and self.states[key] != "done" and not self._unmet(files.cell)
        ]

    def _unmet(self, cell: Cell) -> list[str]:
        needed = chain.from_iterable(cell.needs.values())
        return [cell_id for cell_id in needed if self.states[cell_id] != "done"]

    def _start(self, cell: Cell) -> None:
        files = self.files[cell.id]
        self.tried.add(cell.id)
        lock = files.lock()
        resume = ["--ckpt_path", "last"] if files.resumable() else []
        if not resume:
            files.clear()
        with files.log.open("ab") as log:
            log.write(f"$ {cell.command} {' '.join(resume)}\n".encode())
            log.flush()
            process = subprocess.Popen(
                [*self.program, *cell.arguments, *resume],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | thread_variables(cell.threads),
                pass_fds=(lock,),
                start_new_session=True,
                preexec_fn=lambda: record_holder(lock),
            )
        facts: dict[str, object] = {
            "pid": process.pid,
            "started": time.time(),
            "resumed": bool(resume),
            "command": cell.command,
        }
        files.write("running", facts)
        os.close(lock)
        self.running[cell.id] = _Running(files, process, facts, time.monotonic())
        self.states[cell.id] = "running"
        self.progress.started(cell, resumed=bool(resume))

    def _finish(self, key: str) -> None:
        run = self.running.pop(key)
        seconds = time.monotonic() - run.started
        status = run.process.returncode
        missing = run.files.missing_outputs() if status == 0 else []
        if status == 0 and not missing:
            self.states[key] = "done"
            run.files.write("done", run.facts | {"seconds": seconds, **_environment()})
            self.progress.done(run.files.cell, seconds)
            return
        reason = f"ended without {', '.join(missing)}" if missing else f"exit status {status}"
        self.states[key] = "failed"
        run.files.write("failed", run.facts | {"seconds": seconds, "reason": reason})
        self.progress.failed(run.files.cell, reason, run.files.tail(15), run.files.log)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _environment() -> dict[str, object]:
    versions = {"python": platform.python_version()}
    for name in _RECORDED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "versions": versions,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}",
    }


@contextlib.contextmanager
def _only_runner(out: Path) -> Iterator[None]:
    with (out / ".runner.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{out}: another `kd-study run` works there; wait or end it") from error
        yield


class _StopRequest:
    """Whether SIGINT or SIGTERM came.

    The handlers raise nothing: an exception that they raised while a cell is being forked would be
    dropped, as all exceptions in at-fork callbacks are, and the signal would be lost.
    """

    def __init__(self) -> None:
        self.came = False

    def __enter__(self) -> "_StopRequest":
        numbers = (signal.SIGINT, signal.SIGTERM)
        self.former = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self.former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = True
