"""How long the cells that are left will take, while they run."""

from collections.abc import Mapping, Sequence

from studies.plan.cells import Cell
from studies.run.estimates.schedule import remaining_seconds
from studies.run.estimates.timing import TimeModel

__all__ = ["Forecast"]

_ENDED = ("done", "done before")
_LEFT = ("pending", "elsewhere", "blocked")


class Forecast:
    """Expects the end of a study from its cells' states and what ended ones took.

    Args:
        cells: Those that are to be run, each after what it needs.
        times: What cells are expected to take; learns from those that end.
        workers: Cells at a time.
    """

    def __init__(self, cells: Sequence[Cell], times: TimeModel, workers: int) -> None:
        self.cells = cells
        self.times = times
        self.workers = workers

    def ended(self, cell: Cell, seconds: float) -> None:
        """Learns what a cell took."""
        self.times.add(cell, seconds)

    def remaining(self, states: Mapping[str, str], elapsed: Mapping[str, float]) -> float | None:
        """Returns the seconds until every cell has ended that can.

        A cell that runs longer than expected is taken to be about to end.

        Args:
            states: State of every cell, as the progress table names them.
            elapsed: Seconds that running cells have run.

        Returns:
            Seconds; None where a cell that is left has no expected time yet.
        """
        left, running = {}, {}
        for cell in self.cells:
            state = states[cell.id]
            if state not in _LEFT and state != "running":
                continue
            expected = self.times.expect(cell)
            if expected is None:
                return None
            if state == "running":
                running[cell.id] = max(0.0, expected.seconds - elapsed.get(cell.id, 0.0))
            else:
                left[cell.id] = expected.seconds
        done = {cell.id for cell in self.cells if states[cell.id] in _ENDED}
        return remaining_seconds(self.cells, left, self.workers, done, running)
