"""Runs a plan's cells: in dependency order, several at a time, resumable after any interruption."""

import contextlib
import fcntl
import fnmatch
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from common.errors import UserError
from studies.plan.cells import Cell, Plan
from studies.run.cell_process import Outcome
from studies.run.cell_state import GRACE_SECONDS, CellFiles, State, write_json
from studies.run.executors import Attempt, Executor
from studies.run.progress import Progress

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Shard:
    """One of several runners of a study, each for a share of its cells.

    Attributes:
        number: Which one, from 1 on.
        of: How many there are.
    """

    number: int
    of: int

    @staticmethod
    def parse(text: str) -> "Shard":
        """Reads `i/n`.

        Raises:
            UserError: It is no such pair, or i is not among 1 to n.

        Example:
            >>> Shard.parse("2/8")
            Shard(number=2, of=8)
        """
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise UserError(f"--shard {text}: i/n with 1 <= i <= n, such as 2/8")
        return Shard(int(number), int(of))


def chosen_cells(plan: Plan, only: Sequence[str] = (), shard: Shard | None = None) -> list[Cell]:
    """Returns the cells of a plan that are asked for and what those need, in the plan's order.

    Args:
        plan: All cells.
        only: Names with ``*`` and ``?``, one of which a cell's is to match; empty takes all.
        shard: Takes every n-th of them.

    Raises:
        UserError: A name that no cell has.
    """
    names = [cell.alias for cell in plan.cells]
    for pattern in only:
        if not fnmatch.filter(names, pattern):
            raise UserError(
                f"--only {pattern}: no cell of that name; `kd-study plan` lists them, such as "
                f"{names[0]} and {names[-1]}"
            )
    asked = [
        cell
        for cell in plan.cells
        if not only or any(fnmatch.fnmatchcase(cell.alias, pattern) for pattern in only)
    ]
    if shard is not None:
        asked = asked[shard.number - 1 :: shard.of]
    wanted = {cell.id for cell in asked}
    for cell in reversed(plan.cells):
        if cell.id in wanted:
            wanted.update(*cell.needs.values())
    return [cell for cell in plan.cells if cell.id in wanted]


def run_plan(
    plan: Plan,
    out: Path,
    *,
    executor: Executor,
    progress: Progress,
    only: Sequence[str] = (),
    shard: Shard | None = None,
) -> bool:
    """Runs the cells that are not done yet.

    Args:
        plan: The cells.
        out: Folder of the study; gets `plan.json`.
        executor: Where cells run.
        progress: Where changes are shown.
        only: Which cells; see :func:`chosen_cells`.
        shard: A share of the cells; others may run theirs at the same time. A cell that several
            need is run by whoever comes first, and the others wait for it.

    Returns:
        Whether every cell that was asked for is done. Failures do not stop the cells that do not
        need them.

    Raises:
        UserError: Another runner works on the same folder, or on the same shard.
        KeyboardInterrupt: SIGINT or SIGTERM came; running cells were ended and can be resumed.
    """
    out.mkdir(parents=True, exist_ok=True)
    with _only_runner(out, shard), _stop_signals() as came:
        write_json(out / "plan.json", plan.as_dict())
        runner = _Runner(chosen_cells(plan, only, shard), executor, progress)
        try:
            runner.run(came)
        finally:
            runner.end_running()
            executor.close()
    return all(state == "done" for state in runner.states.values())


class _Runner:
    def __init__(self, cells: list[Cell], executor: Executor, progress: Progress) -> None:
        self.files = {cell.id: CellFiles(cell) for cell in cells}
        self.executor = executor
        self.progress = progress
        self.running: dict[str, Attempt] = {}
        self.elsewhere: set[str] = set()
        self.states: dict[str, State] = {key: files.state() for key, files in self.files.items()}
        self.tried: set[str] = set()
        for key, files in self.files.items():
            if self.states[key] == "done":
                progress.skipped(files.cell)

    def run(self, signals: list[int]) -> None:
        while True:
            if signals:
                raise KeyboardInterrupt
            startable = self._startable()
            for cell in startable:
                if len(self.running) < self.executor.workers:
                    self._start(cell)
            if not startable and not self.running:
                break
            for key, attempt in list(self.running.items()):
                outcome = attempt.poll()
                if outcome is not None:
                    self._finish(key, outcome)
            self.progress.tick()
            time.sleep(_POLL_SECONDS)
        for key, files in self.files.items():
            if key not in self.tried and self.states[key] != "done":
                self.progress.blocked(files.cell, self._unmet(files.cell))

    def end_running(self) -> None:
        """Ends what still runs, politely and then not."""
        for attempt in self.running.values():
            attempt.ask_to_end()
        limit = time.monotonic() + GRACE_SECONDS
        for key, attempt in self.running.items():
            attempt.ensure_ended(limit)
            self.states[key] = "interrupted"
            self.progress.interrupted(self.files[key].cell)
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
        # Another shard may have finished it since this runner last looked.
        if files.state() == "done":
            self.elsewhere.discard(cell.id)
            self.states[cell.id] = "done"
            self.progress.skipped(cell)
            return
        resumed = files.resumable()
        attempt = self.executor.start(cell)
        if attempt is None:
            if cell.id not in self.elsewhere:
                self.elsewhere.add(cell.id)
                self.progress.elsewhere(cell)
            return
        self.elsewhere.discard(cell.id)
        self.tried.add(cell.id)
        self.running[cell.id] = attempt
        self.states[cell.id] = "running"
        self.progress.started(cell, resumed=resumed)

    def _finish(self, key: str, outcome: Outcome) -> None:
        del self.running[key]
        files = self.files[key]
        self.states[key] = outcome.state
        if outcome.state == "done":
            self.progress.done(files.cell, outcome.seconds)
        else:
            self.progress.failed(files.cell, outcome.reason, files.tail(15), files.log)


@contextlib.contextmanager
def _only_runner(out: Path, shard: Shard | None) -> Iterator[None]:
    """Holds the folder, alone or beside the other shards."""
    with contextlib.ExitStack() as stack:
        _hold(stack, out / ".runner.lock", fcntl.LOCK_EX if shard is None else fcntl.LOCK_SH)
        if shard is not None:
            name = f".runner-{shard.number}-of-{shard.of}.lock"
            _hold(stack, out / name, fcntl.LOCK_EX)
        yield


def _hold(stack: contextlib.ExitStack, path: Path, kind: int) -> None:
    file = stack.enter_context(path.open("a"))
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            f"{path.parent}: another `kd-study run` works there; wait or end it"
        ) from error


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Yields a list to which SIGINT and SIGTERM add themselves when they come.

    The handlers raise nothing: an exception that they raised while a cell is being forked would be
    dropped, as all exceptions in at-fork callbacks are, and the signal would be lost.
    """
    came: list[int] = []
    former = {
        number: signal.signal(number, lambda number, frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield came
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
