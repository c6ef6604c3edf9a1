"""Settings, expected times, the schedule, the forecast, and what progress shows of it."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from common.errors import UserError
from studies.plan.cells import Cell, Plan
from studies.plan.planner import make_plan
from studies.plan.settings import Settings, read_settings
from studies.plan.study_file import read_study
from studies.run.cell_state import CellFiles
from studies.run.estimates import Forecast, TimeModel, estimate_cells
from studies.run.estimates.schedule import remaining_seconds
from studies.run.estimates.timing import recorded
from studies.run.progress import Progress
from tests.processes import ROOT

PlanOf = Callable[..., Plan]


def cell(name: str, needs: tuple[str, ...] = (), stage: str = "student", **more: str) -> Cell:
    given = {"option": needs} if needs else {}
    plain = Cell(name, name, stage, stage, None, "f", "s", 1, 1, given, f"cells/{name}", "e", (), 1)
    return replace(plain, **more)


def test_settings_are_merged_as_the_command_merges_them(tmp_path: Path) -> None:
    base, over = tmp_path / "base.yaml", tmp_path / "over.yaml"
    base.write_text(
        "model: {class_path: kdmodules.StudentModule, init_args: {lr: 1, network: {family: opt}}}\n"
        "trainer: {callbacks+: [{class_path: a.First, init_args: {size: 3}}], devices: 2}\n"
    )
    over.write_text(
        "model: {init_args: {network: {config: {depth: 2}}}}\n"
        "trainer: {callbacks+: [{class_path: a.Second}], devices: 4}\n"
    )
    arguments = ("fit", "-c", str(base), "-c", str(over), "--model.network.family", "llama")
    one = replace(cell("x"), arguments=(*arguments, "--trainer.max_epochs", "3"))
    settings = read_settings([one, one])["x"]
    assert settings.text("model.network.family") == "llama"
    assert settings.number("model.lr", 0) == 1
    assert settings.section("model.network.config") == {"depth": 2}
    assert settings.class_name("model") == "StudentModule"
    assert settings.count("trainer.devices", 0) == 4
    assert settings.count("trainer.max_epochs", 0) == 3
    assert settings.count("trainer.absent", 7) == 7
    assert [Settings({"a": c}).class_name("a") for c in settings.listed("trainer.callbacks")] == [
        "First",
        "Second",
    ]
    with pytest.raises(UserError, match=r"model\.network\.family is 'llama': give a number"):
        settings.number("model.network.family", 0)


def test_cells_like_it_count() -> None:
    times = TimeModel()
    first, same = (cell(name, technique="kd", size="s") for name in "ab")
    assert times.expect(first) is None
    times.add(cell("far", technique="gkd", size="s"), 50.0)
    times.add(cell("big", technique="kd", size="l"), 50.0)
    times.add(cell("start", technique="kd", size="s", stage="counterfactual"), 50.0)
    assert times.expect(first) is None
    times.add(same, 7.0)
    times.add(cell("c", technique="kd", size="s"), 9.0)
    assert times.expect(first).seconds == 8
    assert times.expect(first).basis == "mean of 2 cells like it"
    assert times.expect(same).seconds == 7
    assert times.expect(same).basis == "measured"


def test_recorded_times_are_of_uninterrupted_cells_of_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = replace(cell("x"), run_dir="cells/x-00000001")
    kinds = {
        "x-00000001": {"seconds": 5.0, "resumed": False},
        "x-00000002": {"seconds": 6.0, "resumed": False},
        "x-00000003": {"seconds": 7.0, "resumed": True},
        "x-y-00000004": {"seconds": 8.0, "resumed": False},
    }
    for name, facts in kinds.items():
        CellFiles(replace(one, run_dir=f"cells/{name}")).write("done", facts)
    CellFiles(replace(one, run_dir="cells/x-00000005")).write("failed", {"seconds": 1.0})
    assert recorded(one) == {"x-00000001": 5.0, "x-00000002": 6.0}
    assert TimeModel([one]).expect(replace(one, id="x-00000001")).seconds == 5


def by_ticks(cells: list[Cell], seconds: dict[str, int], workers: int) -> int:
    """A second at a time: what is running, what has ended, what may begin."""
    left, over, running, clock = [c.id for c in cells], set(), {}, 0
    needs = {c.id: {n for listed in c.needs.values() for n in listed} for c in cells}
    while left or running:
        for name in [n for n in left if needs[n] <= over]:
            if len(running) < workers:
                running[name] = seconds[name]
                left.remove(name)
        clock += 1
        running = {name: rest - 1 for name, rest in running.items()}
        over |= {name for name, rest in running.items() if rest == 0}
        running = {name: rest for name, rest in running.items() if rest}
    return clock


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_schedule_is_the_runners(workers: int) -> None:
    cells = [
        cell("t"),
        cell("i"),
        cell("a", ("t",)),
        cell("b", ("t", "i")),
        cell("c", ("b",)),
        cell("d"),
    ]
    seconds = {"t": 5, "i": 2, "a": 7, "b": 3, "c": 4, "d": 6}
    expected = {name: float(value) for name, value in seconds.items()}
    assert remaining_seconds(cells, expected, workers) == by_ticks(cells, seconds, workers)


def test_done_running_and_unstartable_cells_in_the_schedule() -> None:
    cells = [cell("t"), cell("a", ("t",)), cell("b", ("t",)), cell("z", ("failed",))]
    expected = {"a": 10.0, "b": 4.0, "z": 100.0}
    assert remaining_seconds(cells, expected, 1, done={"t"}) == 14
    assert remaining_seconds(cells, expected, 2, running={"t": 3.0}) == 13
    assert remaining_seconds(cells, {}, 2, done={"t", "a", "b"}) == 0


def test_a_forecast_learns_and_counts_late_cells_as_about_to_end() -> None:
    cells = [cell("t", stage="t"), cell("a", ("t",)), cell("b", ("t",))]
    forecast = Forecast(cells, TimeModel(), workers=1)
    states = dict.fromkeys("tab", "pending")
    assert forecast.remaining(states, {}) is None
    forecast.ended(cells[0], 5.0)
    states |= {"t": "done", "a": "running"}
    assert forecast.remaining(states, {"a": 1.0}) is None
    forecast.ended(cells[1], 20.0)
    states |= {"a": "done", "b": "running"}
    assert forecast.remaining(states, {"b": 15.0}) == 5
    assert forecast.remaining(states, {"b": 500.0}) == 0


def progress_of(plan: Plan, terminal: bool) -> tuple[Progress, io.StringIO]:
    text = io.StringIO()
    console = Console(file=text, width=200, force_terminal=terminal)
    times = TimeModel()
    for one in plan.cells:
        times.add(replace(one, id=f"{one.id}-before"), 600.0)
    return Progress(plan, console, Forecast(plan.cells, times, workers=1)), text


def test_a_line_at_the_end_of_a_cell_says_how_long_the_rest_takes(plan_of: PlanOf) -> None:
    plan = plan_of()
    progress, text = progress_of(plan, terminal=False)
    with progress:
        for one in plan.cells:
            progress.started(one, resumed=False)
            progress.done(one, 600.0)
    ends = [line for line in text.getvalue().splitlines() if line.startswith("done")]
    assert [line.partition("; ")[2] for line in ends] == [
        "about 40 min left",
        "about 30 min left",
        "about 20 min left",
        "about 10 min left",
        "",
    ]


def test_the_live_table_says_how_long_the_rest_takes(plan_of: PlanOf) -> None:
    progress, text = progress_of(plan_of(), terminal=True)
    with progress:
        progress.tick()
    assert "about 50 min left" in text.getvalue()


@pytest.mark.parametrize("name", ["quickstart", "llama", "ensemble"])
def test_every_network_of_the_shipped_studies_is_known(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    plan = make_plan(read_study(f"configs/studies/{name}.yaml"), tmp_path)
    estimates = estimate_cells(plan.cells)
    assert [one.unknown for one in estimates.values() if one.unknown] == []
