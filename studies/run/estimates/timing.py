"""How long a cell will take, from those that have ended."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from studies.plan.cells import Cell
from studies.run.cell_state import CellFiles
from studies.run.estimates.work import Work

__all__ = ["Expected", "TimeModel", "recorded"]

_SUPERVISED = "supervised"


@dataclass(frozen=True)
class Expected:
    """The time of a cell.

    Attributes:
        seconds: How long.
        basis: What it rests on, for people.
    """

    seconds: float
    basis: str


@dataclass
class TimeModel:
    """Expects of a cell what cells like it took.

    The nearest kind that has ended counts: the same stage, technique and size, by their mean;
    then the same training (a technique, or none) with the same audits, by work; then any cell, by
    work. Where a cell was resumed, its time is that of the last attempt alone and is not used.

    Attributes:
        work: Each cell's work, or None where it is unknown.
        audits: Each cell's audits, as one text.
    """

    work: Mapping[str, Work | None]
    audits: Mapping[str, str]
    taken: dict[str, tuple[Cell, float]] = field(default_factory=dict)

    def add(self, cell: Cell, seconds: float, folder: str = "") -> None:
        """Notes the time of a cell that has ended.

        Args:
            cell: The cell.
            seconds: What it took.
            folder: The folder's name where it was the same cell with other inputs.
        """
        self.taken[folder or cell.id] = (cell, seconds)

    def expect(self, cell: Cell) -> Expected | None:
        """Returns what a cell is expected to take; None while nothing comparable has ended."""
        own = self.taken.get(cell.id)
        if own is not None:
            return Expected(own[1], "measured")
        like = [s for other, s in self.taken.values() if _kind(other) == _kind(cell)]
        if like:
            return Expected(sum(like) / len(like), f"mean of {_cells(len(like), 'like it')}")
        for others, text in (
            ([o for o in self.taken.values() if self._same_training(o[0], cell)], "of its kind"),
            (list(self.taken.values()), "of any kind"),
        ):
            found = self._by_work(cell, others, text)
            if found is not None:
                return found
        return None

    def _same_training(self, other: Cell, cell: Cell) -> bool:
        same_audits = self.audits.get(other.id) == self.audits.get(cell.id)
        return same_audits and _training(other) == _training(cell)

    def _by_work(
        self, cell: Cell, others: Iterable[tuple[Cell, float]], text: str
    ) -> Expected | None:
        mine = self.work.get(cell.id)
        if mine is None:
            return None
        pairs = [(self.work.get(other.id), seconds) for other, seconds in others]
        known = [(w.amount, s) for w, s in pairs if w is not None and w.unit == mine.unit]
        if not known:
            return None
        rate = sum(seconds for _, seconds in known) / sum(amount for amount, _ in known)
        return Expected(rate * mine.amount, f"by the work of {_cells(len(known), text)}")


def recorded(cell: Cell) -> dict[str, float]:
    """Returns what a cell took, and what cells of its name took with other inputs.

    Returns:
        Seconds by the names of the folders whose cells ended without an interruption.
    """
    folder = Path(cell.run_dir)
    same_name = re.compile(re.escape(cell.alias) + "-[0-9a-f]{8}")
    found = {}
    for path in sorted(folder.parent.glob(f"{cell.alias}-*")):
        if same_name.fullmatch(path.name):
            facts = CellFiles(replace(cell, run_dir=str(path))).read()
            seconds = facts.get("seconds")
            ended = facts.get("state") == "done" and not facts.get("resumed")
            if ended and isinstance(seconds, int | float):
                found[path.name] = float(seconds)
    return found


def _kind(cell: Cell) -> tuple[str, str | None, str, str]:
    return cell.stage, cell.technique, cell.family, cell.size


def _training(cell: Cell) -> str:
    return cell.technique or _SUPERVISED


def _cells(number: int, text: str) -> str:
    return f"{number} cell{'' if number == 1 else 's'} {text}"
