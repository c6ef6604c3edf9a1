"""What a study's runner shows: a live table on a terminal, one plain line per event elsewhere."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from studies.plan.cells import Cell, Plan

if TYPE_CHECKING:
    from studies.run.estimates.schedule import Forecast

_FORECAST_SECONDS = 1.0

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


def rough_duration(seconds: float) -> str:
    """Returns a duration that is not known to the second.

    >>> rough_duration(20), rough_duration(290), rough_duration(7384)
    ('less than a minute', 'about 5 min', 'about 2 h 03 min')
    """
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 60:
        return f"about {minutes} min"
    return f"about {minutes // 60} h {minutes % 60:02d} min"


class Progress:
    """Shows the cells of a plan; a context manager around the run.

    Args:
        plan: The cells to show.
        console: Where to; a live table if it is a terminal.
        forecast: Expects how long the rest will take; None shows no such time.
        verdict: What is told of a cell that has just ended; empty for nothing.
    """

    def __init__(
        self,
        plan: Plan,
        console: Console,
        forecast: "Forecast | None" = None,
        verdict: Callable[[Cell], str] = lambda cell: "",
    ) -> None:
        self.console = console
        self.forecast = forecast
        self.verdict = verdict
        self.time_left = ""
        self.forecast_at = 0.0
        self.cells = plan.cells
        self.states = {cell.id: "pending" for cell in plan.cells}
        self.seconds: dict[str, float] = {}
        self.told: dict[str, str] = {}
        self.starts: dict[str, float] = {}
        # No refresh thread: the runner forks, and a fork beside threads may deadlock.
        self.live = Live(console=console, get_renderable=self._table, auto_refresh=False)

    def __enter__(self) -> "Progress":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def skipped(self, cell: Cell) -> None:
        """A cell that an earlier run has finished."""
        self._event(cell, "done before", "")

    def started(self, cell: Cell, *, resumed: bool) -> None:
        """A cell whose process has begun."""
        self.starts[cell.id] = time.monotonic()
        self.states[cell.id] = "running"
        begun = sum(state not in ("pending", "blocked") for state in self.states.values())
        how = ", from its last checkpoint" if resumed else ""
        self._event(cell, "running", f"{begun} of {len(self.cells)}{how}")

    def done(self, cell: Cell, seconds: float) -> None:
        """A cell whose results are on disk."""
        self.seconds[cell.id] = seconds
        self.states[cell.id] = "done"
        if self.forecast is not None:
            self.forecast.ended(cell, seconds)
        left = self._time_left()
        self.told[cell.id] = told = self.verdict(cell)
        parts = (duration_text(seconds), told, left)
        self._event(cell, "done", "; ".join(part for part in parts if part))

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
            if time.monotonic() >= self.forecast_at + _FORECAST_SECONDS:
                self.time_left = self._time_left()
            self.live.refresh()

    def _time_left(self) -> str:
        """Returns the time that the rest will take; empty where it is not known or nothing is."""
        self.forecast_at = now = time.monotonic()
        if self.forecast is None:
            return ""
        elapsed = {cell_id: now - start for cell_id, start in self.starts.items()}
        left = self.forecast.remaining(self.states, elapsed)
        return "" if left is None or not self._is_unfinished() else f"{rough_duration(left)} left"

    def _is_unfinished(self) -> bool:
        return any(state in ("pending", "running", "elsewhere") for state in self.states.values())

    def _event(self, cell: Cell, state: str, text: str) -> None:
        self.states[cell.id] = state
        if not self.console.is_terminal:
            self._line(f"{state:<11} {cell.alias}{'  ' + text if text else ''}")

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, caption=self.time_left or None)
        table.add_column("cell", overflow="fold")
        table.add_column("state")
        table.add_column("time", justify="right")
        table.add_column("membership")
        for cell in self.cells:
            state = self.states[cell.id]
            seconds = self.seconds.get(cell.id)
            if state == "running":
                seconds = time.monotonic() - self.starts[cell.id]
            shown = "" if seconds is None else duration_text(seconds)
            told = self.told.get(cell.id, "")
            table.add_row(Text(cell.alias), Text(state, _STYLES[state]), shown, Text(told))
        return table
