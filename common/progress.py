"""What a long command shows while it works: one bar at a time, or a line now and then."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

_REFRESH_SECONDS = 0.1
_LINE_SECONDS = 30.0


def duration(seconds: float) -> str:
    """Says a time as one does.

    >>> duration(0.2), duration(75), duration(4000)
    ('1 s', '75 s', '67 min')
    """
    return f"{max(1, round(seconds))} s" if seconds < 120 else f"{round(seconds / 60)} min"


@dataclass
class _Work:
    """Something of so many steps that has begun."""

    title: str
    total: float
    done: int = 0
    more: str = ""
    began: float = field(default_factory=monotonic)

    def told(self) -> str:
        """Returns how far it is, when it ends, and what else is known."""
        total = "" if self.total == float("inf") else f"/{self.total:.0f}"
        seconds = (monotonic() - self.began) * (self.total - self.done) / max(self.done, 1)
        left = f"about {duration(seconds)} left" if total and 0 < self.done < self.total else ""
        return "  ".join(one for one in (f"{self.done}{total}", left, self.more) if one)


class OneBar:
    """A bar on standard error for what runs; where that is no terminal, a line now and then.

    Works lie within one another, as an audit within a validation and that within a training: the
    innermost is shown, and the one around it again when it has ended.

    Args:
        shown: Whether anything is.
        console: Where to.
        line_seconds: Time between two lines where no bar can be.
    """

    def __init__(
        self,
        shown: bool = True,
        console: Console | None = None,
        line_seconds: float = _LINE_SECONDS,
    ) -> None:
        self.shown = shown
        self.console = Console(stderr=True) if console is None else console
        self.line_seconds = line_seconds
        self._works: list[_Work] = []
        self._bars: Progress | None = None
        self._told = monotonic()

    def say(self, what: str, line: str) -> None:
        """Writes a line, its first words in a column of their own."""
        if self.shown:
            self._line(f"{what:<14}  {line}")

    @contextmanager
    def bar(self, title: str, total: float) -> Iterator[Callable[[], None]]:
        """Shows a work of so many steps, and yields what advances it by one."""
        self.begin(title, total)
        try:
            yield self.advance
        finally:
            self.end()

    def begin(self, title: str, total: float) -> None:
        """Begins a work, inside the one that runs; infinite where nobody knows its steps."""
        self._works.append(_Work(title, total))
        if self.shown and self.console.is_terminal and self._bars is None:
            # No thread that refreshes: other processes may be forked beside it.
            columns = TextColumn("{task.description}", markup=False), BarColumn()
            told = TextColumn("{task.fields[told]}", markup=False)
            self._bars = Progress(
                *columns, told, console=self.console, transient=True, auto_refresh=False
            )
            self._bars.add_task("", told="")
            self._show()
            self._bars.start()
        else:
            self._show()

    def advance(self, done: int | None = None, more: Callable[[], str] | None = None) -> None:
        """Counts a step of what runs.

        Args:
            done: Its steps so far; one more than before, if None.
            more: Says what else is known of it; asked only where that is shown.
        """
        work = self._works[-1]
        work.done = work.done + 1 if done is None else done
        if not self.shown:
            return
        pause = self.line_seconds if self._bars is None else _REFRESH_SECONDS
        if monotonic() - self._told < pause or (self._bars is None and work.done >= work.total):
            return
        work.more = "" if more is None else more()
        if self._bars is None:
            self._line(f"{work.title}  {work.told()}")
            self._told = monotonic()
        else:
            self._show()

    def end(self) -> None:
        """Ends the innermost work; the last one takes the bar with it."""
        self._works.pop()
        self._show()

    def close(self) -> None:
        """Ends every work, as where an error has ended them."""
        self._works.clear()
        self._show()

    def _show(self) -> None:
        bars = self._bars
        if bars is None:
            return
        self._told = monotonic()
        if not self._works:
            self._bars = None
            bars.stop()
            return
        work = self._works[-1]
        total = None if work.total == float("inf") else work.total
        bars.update(
            bars.task_ids[0],
            description=work.title,
            completed=work.done,
            total=total,
            told=work.told(),
            refresh=True,
        )

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
