"""When a plan will be done: its cells dealt to workers as the runner deals them, before and while
they run.
"""

import heapq
from collections.abc import Collection, Mapping, Sequence
from itertools import chain

from studies.plan.cells import Cell
from studies.run.estimates.timing import TimeModel

_ENDED = ("done", "done before")
_LEFT = ("pending", "elsewhere", "blocked")


def remaining_seconds(
    cells: Sequence[Cell],
    expected: Mapping[str, float],
    workers: int,
    done: Collection[str] = (),
    running: Mapping[str, float] | None = None,
) -> float:
    """Runs through the cells that are left.

    Whenever a worker is free it begins the first cell, in the plan's order, whose needs are met.

    Args:
        cells: All cells, each after what it needs.
        expected: Seconds of every cell that may still begin; a cell without an entry never does.
        workers: Cells at a time.
        done: Ids of the cells that are done.
        running: Seconds that cells at work have still to go.

    Returns:
        Seconds until nothing is left that can begin. Cells behind one that never begins do not.
    """
    over = set(done)
    ends = [(seconds, cell_id) for cell_id, seconds in (running or {}).items()]
    heapq.heapify(ends)
    begun = {cell_id for _, cell_id in ends}
    waiting = [
        (cell.id, set(chain.from_iterable(cell.needs.values())))
        for cell in cells
        if cell.id in expected and cell.id not in over | begun
    ]
    now = 0.0
    while True:
        for item in list(waiting):
            if len(ends) >= workers:
                break
            if item[1] <= over:
                heapq.heappush(ends, (now + expected[item[0]], item[0]))
                waiting.remove(item)
        if not ends:
            return now
        now, ended = heapq.heappop(ends)
        over.add(ended)


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
