"""Which seed a run has: no two runs of a study that are to be independent share one."""

from studies.plan.cells import Cell

__all__ = ["MOST_WITH_REPEATS", "MOST_WORLDS", "run_seed", "student_seed"]

_STUDENT, _REPEAT, _WORLD = 10_000, 1_000_000, 100_000_000
MOST_WITH_REPEATS = _REPEAT // _STUDENT
"""Student seeds, and repeats, have to lie below this where a study has several repeats."""
MOST_WORLDS = 2**32 // _WORLD
"""Shadow worlds whose seeds are numbers of 32 bits, the most that generators take."""


def run_seed(replicate: int, student: int, repeat: int, world: int | None) -> int:
    """Returns `seed_everything` of a run.

    Args:
        replicate: Seed of its split.
        student: Student seed; 0 of a stage without.
        repeat: Which of the replicate's repeats, from 1.
        world: Shadow world; None outside of one.
    """
    outside = 0 if world is None else world + 1
    return replicate + _STUDENT * student + _REPEAT * (repeat - 1) + _WORLD * outside


def student_seed(cell: Cell) -> int:
    """Returns which of the study's student seeds a cell has; 0 where its stage has none."""
    return ((cell.seed - cell.replicate) % _WORLD - _REPEAT * (cell.repeat - 1)) // _STUDENT
