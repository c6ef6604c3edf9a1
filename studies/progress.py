"""What a study's runner shows: a live table on a terminal, one plain line per event elsewhere."""

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from studies.plan import Cell, Plan

__all__ = ["Progress", "duration_text"]

_STYLES = {
    "pending": "dim",
    "running": "cyan",
    "done": "green",
    "done before": "green dim",
    "failed": "bold red",
    "interrupted": "yellow",
    "blocked": "yellow",
    "elsewhere": "cyan dim",
}


def duration_text(seconds: float) -> str:
    """Returns a duration for people.

    >>> duration_text(4.2), duration_text(75), duration_text(7384)
    ('4 s', '1 min 15 s', '2 h 03 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Progress:
    """Shows the cells of a plan; a context manager around the run.

    Args:
        plan: The cells to show.
        console: Where to; a live table if it is a terminal.
    """

    def __init__(self, plan: Plan, console: Console) -> None:
        self.console = console
        self.cells = plan.cells
        self.states = {cell.id: "pending" for cell in plan.cells}
        self.seconds: dict[str, float] = {}
        self.starts: dict[str, float] = {}
        # No refresh thread: the runner forks, and a fork beside threads may deadlock.
        self.live = Live(console=console, get_renderable=self._table, auto_refresh=False)

    def __enter__(self) -> "Progress":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def skipped(self, cell: Cell) -> None:
        """A cell that an earlier run has finished."""
        self._event(cell, "done before", "")

    def started(self, cell: Cell, *, resumed: bool) -> None:
        """A cell whose process has begun."""
        self.starts[cell.id] = time.monotonic()
        how = "from its last checkpoint: " if resumed else ""
        self._event(cell, "running", f"{how}{cell.command}")

    def done(self, cell: Cell, seconds: float) -> None:
        """A cell whose results are on disk."""
        self.seconds[cell.id] = seconds
        self._event(cell, "done", duration_text(seconds))

    def failed(self, cell: Cell, reason: str, tail: Sequence[str], log: Path) -> None:
        """A cell that ended badly, with its last lines."""
        self._event(cell, "failed", reason)
        for line in tail:
            self._line(f"    {line}")
        self._line(f"  log: {log}")
        self._line(f"  command: {cell.command}")

    def interrupted(self, cell: Cell) -> None:
        """A cell that was ended with the runner."""
        self._event(cell, "interrupted", "the same command goes on from here")

    def blocked(self, cell: Cell, unmet: Sequence[str]) -> None:
        """A cell that could not begin."""
        self._event(cell, "blocked", f"needs {', '.join(unmet)}")

    def elsewhere(self, cell: Cell) -> None:
        """A cell that another shard's runner has begun."""
        self._event(cell, "elsewhere", "another shard runs it; waiting")

    def tick(self) -> None:
        """Brings elapsed times up to date."""
        if self.live.is_started:
            self.live.refresh()

    def _event(self, cell: Cell, state: str, text: str) -> None:
        self.states[cell.id] = state
        if not self.console.is_terminal:
            self._line(f"{state:<11} {cell.alias}{'  ' + text if text else ''}")

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        table.add_column("cell", overflow="fold")
        table.add_column("state")
        table.add_column("time", justify="right")
        for cell in self.cells:
            state = self.states[cell.id]
            seconds = self.seconds.get(cell.id)
            if state == "running":
                seconds = time.monotonic() - self.starts[cell.id]
            shown = "" if seconds is None else duration_text(seconds)
            table.add_row(cell.alias, f"[{_STYLES[state]}]{state}[/]", shown)
        return table
