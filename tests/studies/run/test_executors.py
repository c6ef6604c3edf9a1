"""Cells spread over shards and over a Ray cluster; cells are a tiny fake program."""

import io
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from common.errors import UserError
from studies.compare.tables import write_study_tables
from studies.plan.cells import Cell, Plan
from studies.run.cell_process import CellProcess
from studies.run.cell_state import CellFiles
from studies.run.executors import Attempt, Executor, LocalExecutor, RayExecutor
from studies.run.progress import Progress
from studies.run.runner import Shard, chosen_cells, run_plan

PlanOf = Callable[..., Plan]
PROGRAM = [sys.executable, str(Path(__file__).with_name("fake_cell.py"))]
OUT = Path("runs/small")


def run(
    plan: Plan, executor: Executor, shard: Shard | None = None, only: Sequence[str] = ()
) -> tuple[bool, str]:
    text = io.StringIO()
    with Progress(plan, Console(file=text, width=200)) as progress:
        complete = run_plan(plan, OUT, executor=executor, progress=progress, shard=shard, only=only)
    return complete, text.getvalue()


def attempts(plan: Plan) -> dict[str, int]:
    logs = {cell.stage: CellFiles(cell).log for cell in plan.cells}
    return {stage: log.read_text().count("$ OMP") for stage, log in logs.items() if log.is_file()}


def tables_of(plan: Plan) -> list[bytes]:
    write_study_tables(plan, OUT)
    return [(OUT / f"{name}.parquet").read_bytes() for name in ("results", "scores")]


def kill_parent_of(plan: Plan, stage: str) -> None:
    """Kills the process that waits for a stage's cell, once its checkpoint is there."""
    files = next(CellFiles(cell) for cell in plan.cells if cell.stage == stage)
    limit = time.monotonic() + 180
    while not (files.resumable() and files.read().get("state") == "running"):
        if time.monotonic() > limit:
            raise TimeoutError
        time.sleep(0.05)
    stat = Path(f"/proc/{files.read()['pid']}/stat").read_text()
    os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)


@pytest.fixture
def ray() -> Iterator[ModuleType]:
    module = pytest.importorskip("ray", reason="Ray is not installed")
    yield module
    module.shutdown()


@pytest.mark.slow
def test_ray_gives_the_local_tables_although_a_worker_is_killed(
    tables: Path, plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch, ray: ModuleType
) -> None:
    plan = plan_of()
    run(plan, LocalExecutor(PROGRAM, 2))
    expected = tables_of(plan)
    shutil.rmtree(OUT)
    monkeypatch.setenv("FAKE_SECONDS", "2")
    executor = RayExecutor(PROGRAM, 2, 0.0, 1)
    killer = threading.Thread(target=kill_parent_of, args=(plan, "control"))
    killer.start()
    complete, _ = run(plan, executor)
    killer.join()
    assert complete
    assert tables_of(plan) == expected
    # The worker was lost once; the cell went on from its checkpoint in another.
    assert attempts(plan) == {stage: 2 if stage == "control" else 1 for stage in attempts(plan)}
    control = next(cell for cell in plan.cells if cell.stage == "control")
    assert CellFiles(control).read()["resumed"] is True
    with pytest.raises(UserError, match="no room for one cell of 1000 CPUs"):
        RayExecutor(PROGRAM, None, 0.0, 1000)


def test_shards_together_run_every_cell_once(tables: Path, plan_of: PlanOf) -> None:
    plan = plan_of()
    executor = LocalExecutor(PROGRAM, 2, end_holders=False)
    for number in (1, 2, 3):
        assert run(plan, executor, Shard(number, 3))[0]
    assert attempts(plan) == {cell.stage: 1 for cell in plan.cells}
    complete, text = run(plan, LocalExecutor(PROGRAM, 2))
    assert complete
    assert text.count("done before") == len(plan.cells)


def test_cells_are_run_by_name_with_what_they_need(tables: Path, plan_of: PlanOf) -> None:
    plan = plan_of()
    assert run(plan, LocalExecutor(PROGRAM, 2), only=["student-*-r1"])[0]
    assert attempts(plan) == {"teacher": 1, "student": 1}
    assert run(plan, LocalExecutor(PROGRAM, 2), only=["teacher*", "cont?ol-*"])[0]
    assert attempts(plan) == {"teacher": 1, "student": 1, "control": 1}
    with pytest.raises(UserError, match="--only studnt: no cell of that name"):
        chosen_cells(plan, ["student-*", "studnt"])


def test_a_shard_waits_for_a_cell_that_another_runs(
    tables: Path, plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of()
    teacher = plan.cells[0]
    monkeypatch.setenv("FAKE_SECONDS", "2")
    other = LocalExecutor(PROGRAM, 1, end_holders=False).start(teacher)
    assert other is not None
    monkeypatch.setenv("FAKE_SECONDS", "0")
    waiting = threading.Thread(target=poll_to_the_end, args=(other,))
    waiting.start()
    students = Shard(1 + [cell.stage for cell in plan.cells].index("student"), len(plan.cells))
    complete, text = run(plan, LocalExecutor(PROGRAM, 2, end_holders=False), students)
    waiting.join()
    assert complete
    assert "another shard runs it" in text
    assert attempts(plan) == {"teacher": 1, "student": 1}


def poll_to_the_end(attempt: Attempt) -> None:
    while attempt.poll() is None:
        time.sleep(0.05)


def test_shards_divide_a_plan_and_keep_what_their_cells_need(plan_of: PlanOf) -> None:
    plan = plan_of()
    parts = [chosen_cells(plan, shard=Shard(number, 2)) for number in (1, 2)]
    assert {cell.id for part in parts for cell in part} == {cell.id for cell in plan.cells}
    for part in parts:
        seen: set[str] = set()
        for cell in part:
            assert {one for needed in cell.needs.values() for one in needed} <= seen
            seen.add(cell.id)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_a_wrong_shard_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--shard"):
        Shard.parse(text)


def test_a_shard_twice_or_beside_a_whole_runner_is_refused(
    tables: Path, plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of()
    first = Shard(1, 2)

    class Inside(LocalExecutor):
        """Tries other runners while one is at work."""

        def start(self, cell: Cell) -> CellProcess | None:
            for shard in (first, None):
                with pytest.raises(UserError, match="another `kd-study run`"):
                    run(plan, LocalExecutor(PROGRAM, 1), shard)
            return super().start(cell)

    assert run(plan, Inside(PROGRAM, 1, end_holders=False), first)[0]
