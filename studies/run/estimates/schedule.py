"""When a plan will be done: its cells dealt to workers as the runner deals them."""

import heapq
from collections.abc import Collection, Mapping, Sequence
from itertools import chain

from studies.plan.cells import Cell

__all__ = ["remaining_seconds"]


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
