"""A plan as text: what each cell is, needs, holds and will take, and what all come to."""

from collections.abc import Mapping

from rich.console import Console

from studies.plan.cells import Cell, Plan
from studies.run.cell_state import CellFiles
from studies.run.estimates.cells import CellEstimate
from studies.run.estimates.networks import Figures
from studies.run.estimates.schedule import remaining_seconds
from studies.run.estimates.timing import Expected, TimeModel
from studies.run.progress import duration_text, rough_duration


def print_plan(
    plan: Plan,
    estimates: Mapping[str, CellEstimate],
    times: TimeModel,
    workers: int,
    console: Console,
    *,
    terms: bool,
) -> None:
    """Prints every cell and a summary.

    Args:
        plan: The cells.
        estimates: Theirs, by id.
        times: What cells like them took.
        workers: Cells at a time, for the time of all.
        console: Where to.
        terms: Also print what each cell's memory is made of.
    """
    states = {cell.id: CellFiles(cell).state() for cell in plan.cells}
    expected = {cell.id: times.expect(cell) for cell in plan.cells}

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    for cell in plan.cells:
        run = estimates[cell.id].run
        line(f"{cell.id}  {states[cell.id]}")
        line(f"  {_cell_line(estimates[cell.id], expected[cell.id])}")
        for name, size in run.terms.items() if terms and run is not None else ():
            line(f"    {size_text(size):>9}  {name}")
        for option, needed in cell.needs.items():
            line(f"  needs {', '.join(needed)} as --{option}")
        line(f"  {cell.command}")
    line("")
    done = [cell_id for cell_id, state in states.items() if state == "done"]
    line(f"{len(plan.cells)} cells, {len(done)} of them done")
    for text in (*_memory_lines(plan, estimates), _time_line(plan.cells, expected, done, workers)):
        line(text)


def size_text(size: float) -> str:
    """Returns a number of bytes for people, in powers of 1000.

    >>> size_text(234_000_000), size_text(65_657_000_000)
    ('234 MB', '65.7 GB')
    """
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _count_text(parameters: int) -> str:
    for unit, text in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if parameters >= unit:
            return f"{parameters / unit:.3g} {text}"
    return str(parameters)


def _parameters_text(student: Figures, teachers: tuple[Figures, ...]) -> str:
    text = f"{_count_text(student.parameters)} parameters"
    if student.trainable < student.parameters:
        text += f", {_count_text(student.trainable)} of them trained"
    if teachers:
        sizes = " and ".join(_count_text(teacher.parameters) for teacher in teachers)
        text += f", taught by {sizes}"
    return text


def _cell_line(estimate: CellEstimate, expected: Expected | None) -> str:
    if expected is None:
        time = "no timing yet"
    else:
        time = f"{duration_text(expected.seconds)} ({expected.basis})"
    run = estimate.run
    if run is None:
        return f"parameters and memory unknown: {estimate.unknown}; {time}"
    layout = run.layout
    where = "" if layout.devices == 1 else f" on each of {layout.devices} ({layout.strategy})"
    return (
        f"{_parameters_text(run.student, run.teachers)}; "
        f"{size_text(run.bytes)}{where} in {layout.precision}, activations aside; {time}"
    )


def _memory_lines(plan: Plan, estimates: Mapping[str, CellEstimate]) -> list[str]:
    runs = {cell.alias: run for cell in plan.cells if (run := estimates[cell.id].run)}
    if not runs:
        return ["memory: unknown"]
    largest = max(runs, key=lambda alias: runs[alias].bytes)
    lines = [
        f"memory: roughly {size_text(runs[largest].bytes)} on a device ({largest}), as it is held "
        "throughout; activations and the interpreter come on top"
    ]
    assumed = sorted({run.layout.assumed for run in runs.values() if run.layout.assumed})
    return lines + [f"assumed: {text}" for text in assumed]


def _time_line(
    cells: tuple[Cell, ...],
    expected: Mapping[str, Expected | None],
    done: list[str],
    workers: int,
) -> str:
    left = {cell.id for cell in cells} - set(done)
    if not left:
        return "time: nothing is left to do"
    known = {cell_id: time.seconds for cell_id in left if (time := expected[cell_id])}
    if len(known) < len(left):
        return f"time: no timing yet for {len(left) - len(known)} of {len(left)} cells left"
    wall = remaining_seconds(cells, known, workers, done)
    return (
        f"time: {rough_duration(wall)} with {workers} at a time, "
        f"{rough_duration(sum(known.values()))} of cells in all"
    )
