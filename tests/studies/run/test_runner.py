"""The runner: order, skips, failures, kills; cells are a tiny fake program."""

import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from common.errors import UserError
from studies.compare.tables import write_study_tables
from studies.plan.cells import Plan
from studies.run.cell_state import CellFiles
from studies.run.executors import LocalExecutor
from studies.run.progress import Progress
from studies.run.runner import run_plan

PlanOf = Callable[..., Plan]
FAKE_CELL = Path(__file__).with_name("fake_cell.py")
OUT = Path("runs/small")


def run(plan: Plan, workers: int = 2) -> tuple[bool, str]:
    text = io.StringIO()
    with Progress(plan, Console(file=text, width=200)) as progress:
        executor = LocalExecutor([sys.executable, str(FAKE_CELL)], workers)
        complete = run_plan(plan, OUT, executor=executor, progress=progress)
    return complete, text.getvalue()


def attempts(plan: Plan) -> dict[str, int]:
    logs = {cell.stage: CellFiles(cell).log for cell in plan.cells}
    return {stage: log.read_text().count("$ OMP") for stage, log in logs.items() if log.is_file()}


@pytest.fixture
def killable(project: Path, request: pytest.FixtureRequest) -> list[str]:
    """A command that runs the study, with forked cells, in a process of its own."""
    module = "tests.studies.run.fake_cell" if getattr(request, "param", True) else None
    script = f"""
        import sys
        from pathlib import Path
        from rich.console import Console
        from studies.run.executors import LocalExecutor
        from studies.plan.planner import make_plan
        from studies.run.progress import Progress
        from studies.run.runner import run_plan
        from studies.plan.study_file import read_study
        plan = make_plan(read_study("configs/studies/small.yaml"), Path("runs/small"))
        with Progress(plan, Console()) as progress:
            program = [sys.executable, {str(FAKE_CELL)!r}]
            executor = LocalExecutor(program, 2, module={module!r})
            run_plan(plan, Path("runs/small"), executor=executor, progress=progress)
    """
    path = project / "run_it.py"
    path.write_text(textwrap.dedent(script))
    return [sys.executable, str(path)]


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            raise TimeoutError
        time.sleep(0.05)


def ended(pid: int) -> bool:
    """Whether a process runs no more; one that its (foreign) parent has not reaped yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in ("Z", "X")


def test_all_cells_run_once_and_a_rerun_skips_them(tables: Path, plan_of: PlanOf) -> None:
    plan = plan_of()
    complete, text = run(plan)
    assert complete
    assert set(attempts(plan).values()) == {1}
    started = [line.split()[2:] for line in text.splitlines() if line.startswith("running")]
    assert started == [[str(n), "of", "5"] for n in range(1, 6)]
    assert "fake cell teacher-mini-r1, threads 1" in CellFiles(plan.cells[0]).log.read_text()
    complete, text = run(plan)
    assert complete
    assert text.count("done before") == 5
    assert set(attempts(plan).values()) == {1}


def test_a_changed_fragment_reruns_its_cells_alone(
    project: Path, tables: Path, plan_of: PlanOf
) -> None:
    run(plan_of())
    (project / "configs/techniques/kd.yaml").write_text("model: {lr: 0.1}\n")
    plan = plan_of()
    _, text = run(plan)
    assert text.count("done before") == 3
    assert text.count("running ") == 2


def test_a_done_cell_without_its_outputs_runs_again(tables: Path, plan_of: PlanOf) -> None:
    plan = plan_of()
    run(plan)
    shutil.rmtree(CellFiles(plan.cells[0]).folder / "export")
    _, text = run(plan)
    assert text.count("done before") == 4
    assert CellFiles(plan.cells[0]).state() == "done"


def test_a_failure_stops_only_what_needs_it(
    tables: Path, plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FAIL", "teacher")
    plan = plan_of()
    complete, text = run(plan)
    assert not complete
    states = {cell.stage: CellFiles(cell).state() for cell in plan.cells}
    assert states == {
        "teacher": "failed",
        "student": "pending",
        "control": "done",
        "counterfactual_teacher": "done",
        "counterfactual": "done",
    }
    assert "exit status 3" in text
    assert "boom: planted failure" in text
    assert f"command: {plan.cells[0].command}" in text
    assert "blocked" in text
    assert len(write_study_tables(plan, OUT)) == 3
    monkeypatch.delenv("FAKE_FAIL")
    assert run(plan)[0]


def test_a_cell_that_writes_no_results_has_failed(
    project: Path, tables: Path, plan_of: PlanOf
) -> None:
    plan = plan_of()
    (tables / plan.cells[0].alias / "scores.parquet").unlink()
    _, text = run(plan)
    assert "ended without scores.parquet" in text
    assert CellFiles(plan.cells[0]).state() == "failed"


@pytest.mark.parametrize(
    ("killable", "forked"),
    [pytest.param(False, False, marks=pytest.mark.slow), (True, True)],
    indirect=["killable"],
)
def test_the_runner_killed_and_run_again_gives_the_same_tables(
    tables: Path,
    plan_of: PlanOf,
    killable: list[str],
    forked: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = plan_of()
    run(plan)
    write_study_tables(plan, OUT)
    expected = [(OUT / f"{name}.parquet").read_bytes() for name in ("results", "scores")]
    shutil.rmtree(OUT)
    monkeypatch.setenv("FAKE_SECONDS", "30")
    runner = subprocess.Popen(killable)
    teacher = CellFiles(plan.cells[0])
    wait_for(lambda: teacher.resumable() and teacher.read().get("state") == "running")
    orphan = int(str(teacher.read()["pid"]))
    children = psutil.Process(runner.pid).children()
    servers = [child.pid for child in children if "studies.run.fork_server" in child.cmdline()]
    assert len(servers) == (1 if forked else 0)
    runner.kill()
    runner.wait()
    wait_for(lambda: all(ended(server) for server in servers))
    assert not ended(orphan)  # it outlives its runner
    assert teacher.state() == "running"
    monkeypatch.setenv("FAKE_SECONDS", "0")
    assert run(plan)[0]
    assert ended(orphan)
    assert "--ckpt_path last" in teacher.log.read_text()
    assert teacher.read()["resumed"] is True
    write_study_tables(plan, OUT)
    assert [(OUT / f"{name}.parquet").read_bytes() for name in ("results", "scores")] == expected


@pytest.mark.slow
def test_an_interrupted_runner_ends_its_cells(
    tables: Path, plan_of: PlanOf, killable: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "30")
    runner = subprocess.Popen(killable, stderr=subprocess.DEVNULL)
    teacher = CellFiles(plan_of().cells[0])
    wait_for(lambda: teacher.read().get("state") == "running")
    with pytest.raises(UserError, match="another `kd-study run`"):
        run(plan_of())
    runner.send_signal(signal.SIGTERM)
    assert runner.wait(40) != 0
    assert teacher.state() == "interrupted"


def test_a_state_file_is_never_half_written(tables: Path, plan_of: PlanOf) -> None:
    plan = plan_of()
    run(plan)
    for cell in plan.cells:
        content = json.loads((CellFiles(cell).folder / "state.json").read_text())
        assert content["state"] == "done"
        assert content["command"] == cell.command
        assert "torch" in content["versions"]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["runner", "cell"])
def test_ten_kills_at_random_moments_leave_the_same_tables(
    victim: str,
    tables: Path,
    plan_of: PlanOf,
    killable: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = plan_of()
    run(plan)
    write_study_tables(plan, OUT)
    names = ("results", "scores", "memorization")
    expected = [(OUT / f"{name}.parquet").read_bytes() for name in names]
    shutil.rmtree(OUT)
    monkeypatch.setenv("FAKE_SECONDS", "0.4")
    draw = random.Random(0)
    for kill in range(10):
        runner = subprocess.Popen(killable, stdout=subprocess.DEVNULL)
        time.sleep(draw.uniform(0.0, 6.0))
        if victim == "runner":
            runner.kill()
        else:
            kill_one_cell(plan)
        runner.wait()
        # What is there can be read at any time; a third of the kills hits a finished cell's reruns.
        write_study_tables(plan, OUT)
        if kill % 3 == 2:
            shutil.rmtree(CellFiles(draw.choice(plan.cells)).folder, ignore_errors=True)
    assert run(plan)[0]
    write_study_tables(plan, OUT)
    assert [(OUT / f"{name}.parquet").read_bytes() for name in names] == expected


def kill_one_cell(plan: Plan) -> None:
    """Kills the process of the first cell that runs, if one does."""
    for cell in plan.cells:
        files = CellFiles(cell)
        if files.state() == "running":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(str(files.read()["pid"])), signal.SIGKILL)
            return
