"""How long a cell will take, from those that have ended."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from studies.plan.cells import Cell
from studies.run.cell_state import CellFiles


@dataclass(frozen=True)
class Expected:
    """The time of a cell.

    Attributes:
        seconds: How long.
        basis: What it rests on, for people.
    """

    seconds: float
    basis: str


class TimeModel:
    """Expects of a cell what it took, or the mean of what cells like it took.

    Cells of one stage, technique, defence, family and size are alike.

    Args:
        cells: What they, and cells of their names with other inputs, took is read from their
            folders.
    """

    def __init__(self, cells: Iterable[Cell] = ()) -> None:
        self.taken: dict[str, tuple[Cell, float]] = {}
        for cell in cells:
            for folder, seconds in recorded(cell).items():
                self.taken[folder] = (cell, seconds)

    def add(self, cell: Cell, seconds: float) -> None:
        """Notes the time of a cell that has ended."""
        self.taken[cell.id] = (cell, seconds)

    def expect(self, cell: Cell) -> Expected | None:
        """Returns what a cell is expected to take; None while none like it has ended."""
        if cell.id in self.taken:
            return Expected(self.taken[cell.id][1], "measured")
        like = [s for other, s in self.taken.values() if _kind(other) == _kind(cell)]
        if not like:
            return None
        cells = f"{len(like)} cell{'' if len(like) == 1 else 's'}"
        return Expected(sum(like) / len(like), f"mean of {cells} like it")


def recorded(cell: Cell) -> dict[str, float]:
    """Returns what a cell took, and what cells of its name took with other inputs.

    Where a cell was resumed, its time is that of the last attempt alone and is not used.

    Returns:
        Seconds by the names of the folders whose cells ended without an interruption.
    """
    folder = Path(cell.run_dir)
    same_name = re.compile(re.escape(cell.alias) + "-[0-9a-f]{8}")
    taken = {}
    for path in sorted(folder.parent.glob(f"{cell.alias}-*")):
        if same_name.fullmatch(path.name):
            facts = CellFiles(replace(cell, run_dir=str(path))).read()
            seconds = facts.get("seconds")
            ended = facts.get("state") == "done" and not facts.get("resumed")
            if ended and isinstance(seconds, int | float):
                taken[path.name] = float(seconds)
    return taken


def _kind(cell: Cell) -> tuple[str | None, ...]:
    return cell.stage, cell.technique, cell.defence, cell.family, cell.size
