"""Where cells run: as processes of this machine, or as tasks of a Ray cluster."""

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from common.errors import UserError
from studies.plan.cells import Cell, thread_variables
from studies.plan.settings import read_settings
from studies.run.cell_process import CellProcess, Outcome, Starter, fresh_process
from studies.run.cell_state import GRACE_SECONDS, CellFiles
from studies.run.estimates.layout import UnknownLayoutError, layout_of
from studies.run.fork_server import ForkedProcess, ForkServer

_POLL_SECONDS = 0.2


class Attempt(Protocol):
    """A cell that was begun."""

    def poll(self) -> Outcome | None:
        """Returns the outcome, or None while it runs."""

    def ask_to_end(self) -> None:
        """Asks it to end before its time."""

    def ensure_ended(self, limit: float) -> None:
        """Returns when it runs no more; ends it by force at a time of `time.monotonic`."""


class Executor(Protocol):
    """Begins cells.

    Attributes:
        workers: Cells at a time.
    """

    workers: int

    def start(self, cell: Cell) -> Attempt | None:
        """Begins a cell; returns None where another runner is at work on it or has finished it."""

    def close(self) -> None:
        """Frees what it holds beside its cells; it can be used again."""


def fit_program() -> list[str]:
    """Returns the program that runs a cell: the `kd-privacy` of this Python's environment.

    Raises:
        UserError: It is not installed.
    """
    beside = str(Path(sys.executable).parent)
    program = shutil.which("kd-privacy", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if program is None:
        raise UserError(
            f"kd-privacy is not installed beside {sys.executable}: {sys.executable} -m pip install "
            "-e . in the project's folder"
        )
    return [program]


class LocalExecutor:
    """Cells are processes of this machine.

    Args:
        program: Command that takes a cell's arguments (`fit_program`).
        workers: Cells at a time.
        end_holders: A process of a cell that still runs is a left-over and is ended first;
            otherwise it is another runner's.
        module: Module whose `main()` is that command; cells on one CPU process are forked from a
            server that has imported it. None starts every cell anew.
    """

    def __init__(
        self,
        program: Sequence[str],
        workers: int,
        end_holders: bool = True,
        module: str | None = None,
    ) -> None:
        self.program = list(program)
        self.workers = workers
        self.end_holders = end_holders
        self.module = module
        self.servers: dict[int, ForkServer] = {}

    def start(self, cell: Cell) -> CellProcess | None:
        """Begins a cell here, unless another runner is at work on it or has just finished it."""
        # First of all: a server that still imports may not hold a cell's lock.
        start = self._starter(cell)
        files = CellFiles(cell)
        lock = files.lock(end_holder=self.end_holders)
        if lock is None:
            return None
        if files.state() == "done":
            os.close(lock)
            return None
        return CellProcess(cell, start, lock)

    def close(self) -> None:
        """Ends the fork servers."""
        while self.servers:
            self.servers.popitem()[1].close()

    def _starter(self, cell: Cell) -> Starter:
        environment = os.environ | thread_variables(cell.threads)
        if self.module is None or not can_fork(cell):
            return fresh_process(self.program, environment)
        server = self._server(cell.threads, environment)

        def start(arguments: Sequence[str], log: int, lock: int) -> ForkedProcess:
            command = [self.program[-1], *arguments]
            try:
                return server.start(command, log, lock)
            except (EOFError, OSError):
                # Killed since the last cell, by the system for want of memory say.
                self.servers.pop(cell.threads).close()
                return self._server(cell.threads, environment).start(command, log, lock)

        return start

    def _server(self, threads: int, environment: Mapping[str, str]) -> ForkServer:
        server = self.servers.get(threads)
        if server is None or not server.is_alive:
            server = self.servers[threads] = ForkServer(str(self.module), environment)
        return server


def can_fork(cell: Cell) -> bool:
    """Whether a cell may be forked: one process on a CPU, without an accelerator's driver."""
    settings = read_settings([cell])[cell.id]
    try:
        layout = layout_of(settings)
    except UnknownLayoutError:
        return False
    return sys.platform == "linux" and layout.on_cpu and layout.devices == 1


class RayExecutor:
    """Cells are tasks of a Ray cluster that shares this machine's folders.

    Ray places a cell where its threads and GPUs are free, and starts it anew elsewhere when its
    worker or node is lost; it then goes on from its last checkpoint.

    Args:
        program: Command that takes a cell's arguments, the same on every node.
        workers: Cells at a time; None for as many as the cluster's CPUs allow.
        gpus_per_cell: GPUs that a cell is given; a fraction shares one.
        threads_per_cell: Threads of a cell, which are CPUs to Ray.

    Raises:
        UserError: Ray is not installed, or the cluster has too few CPUs or GPUs for one cell.
    """

    def __init__(
        self,
        program: Sequence[str],
        workers: int | None,
        gpus_per_cell: float,
        threads_per_cell: int,
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise UserError(
                "--executor ray: Ray is missing; pip install 'kd-privacy[ray]'"
            ) from error
        self.ray = ray
        self.program = list(program)
        self.gpus_per_cell = gpus_per_cell
        if not ray.is_initialized():
            ray.init(log_to_driver=False, include_dashboard=False)
        resources = ray.cluster_resources()
        room = int(resources.get("CPU", 0) // threads_per_cell)
        if gpus_per_cell:
            room = min(room, int(resources.get("GPU", 0) / gpus_per_cell))
        if not room:
            raise UserError(
                f"--executor ray: no room for one cell of {threads_per_cell} CPUs and "
                f"{gpus_per_cell:g} GPUs in a cluster of {resources.get('CPU', 0):g} CPUs and "
                f"{resources.get('GPU', 0):g} GPUs"
            )
        self.workers = room if workers is None else min(workers, room)

    def close(self) -> None:
        """Leaves the cluster as it is."""

    def start(self, cell: Cell) -> "RayAttempt":
        """Hands a cell to the cluster."""
        task = self.ray.remote(num_cpus=cell.threads, num_gpus=self.gpus_per_cell, max_retries=3)(
            _attempt
        )
        return RayAttempt(self.ray, task.remote(cell, self.program, os.getcwd()))


class RayAttempt:
    """A cell that a Ray cluster was given."""

    def __init__(self, ray: Any, reference: Any) -> None:
        self.ray = ray
        self.reference = reference

    def poll(self) -> Outcome | None:
        """Returns the outcome, or None while the task is queued or runs."""
        ready, _ = self.ray.wait([self.reference], timeout=0)
        if not ready:
            return None
        try:
            outcome = self.ray.get(self.reference)
        except self.ray.exceptions.RayError as error:
            last = str(error).strip().splitlines()[-1:]
            return Outcome(
                "failed", 0.0, f"Ray gave it up: {' '.join([type(error).__name__, *last])}"
            )
        if not isinstance(outcome, Outcome):
            raise TypeError(f"a cell's task returned {type(outcome).__name__}")
        return outcome

    def ask_to_end(self) -> None:
        """Interrupts the task, which ends its cell."""
        self.ray.cancel(self.reference)

    def ensure_ended(self, limit: float) -> None:
        """Waits for the task; then kills its worker."""
        ready, _ = self.ray.wait([self.reference], timeout=max(0.0, limit - time.monotonic()))
        if not ready:
            self.ray.cancel(self.reference, force=True)


def _attempt(cell: Cell, program: list[str], folder: str) -> Outcome:
    """Runs a cell to its end in a Ray worker."""
    os.chdir(folder)
    lock = CellFiles(cell).lock(end_holder=True)
    if lock is None:
        raise RuntimeError(f"{cell.id}: a lock that is waited for was not given")
    environment = os.environ | thread_variables(cell.threads)
    process = CellProcess(cell, fresh_process(program, environment), lock)
    try:
        while (outcome := process.poll()) is None:
            time.sleep(_POLL_SECONDS)
    except BaseException:
        process.ask_to_end()
        process.ensure_ended(time.monotonic() + GRACE_SECONDS / 2)
        raise
    return outcome
