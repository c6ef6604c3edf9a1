"""Forked cells: what a fresh process gives, and what is left when somebody is killed."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from studies.plan.cells import Cell, Plan
from studies.run.cell_process import CellProcess, Outcome
from studies.run.cell_state import CellFiles
from studies.run.executors import LocalExecutor, can_fork
from studies.run.fork_server import ForkServer
from tests.processes import ROOT

PlanOf = Callable[..., Plan]
FAKE = "tests.studies.run.fake_cell"
PROBE = "tests.studies.run.probe_cell"
NETWORK = "{n_layer: 1, n_head: 2, n_embd: 16, n_positions: 512}"


def outcome_of(executor: LocalExecutor, cell: Cell) -> Outcome:
    process = executor.start(cell)
    assert process is not None
    limit = time.monotonic() + 300
    while (outcome := process.poll()) is None:
        assert time.monotonic() < limit
        time.sleep(0.05)
    return outcome


@pytest.fixture
def teacher(tables: Path, plan_of: PlanOf) -> Cell:
    """The first cell of the small study, on a CPU; the fake cell finds its tables."""
    return plan_of(trainer__accelerator="cpu").cells[0]


@pytest.fixture
def forking(teacher: Cell) -> LocalExecutor:
    """An executor whose cells are forks that run the fake cell."""
    return LocalExecutor(["no-such-program"], 2, module=FAKE)


@pytest.mark.slow
def test_a_forked_cell_is_a_fresh_one(
    plan_of: PlanOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process starts in the same state, and its tables and weights have the same bits."""
    planned = plan_of().cells[0]
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    names = ["base/teacher", "data/builtin", "families/gpt2-tiny", "audits/membership"]
    fragments = [part for name in names for part in ("-c", f"configs/{name}.yaml")]
    options = {
        "--model.network.config": NETWORK,
        "--data.n_records": "120",
        "--data.vocabulary": "300",
        "--trainer.accelerator": "cpu",
        "--trainer.max_epochs": "1",
        "--trainer.enable_progress_bar": "false",
    }
    program = [sys.executable, "-P", "-m", PROBE]
    states, folders = {}, {}
    for way, module in (("fresh", None), ("forked", PROBE)):
        folder = folders[way] = tmp_path / way / "run"
        monkeypatch.setenv("PROBE", str(tmp_path / f"{way}.json"))
        given = [part for pair in {**options, "--run_dir": str(folder)}.items() for part in pair]
        cell = replace(
            planned,
            arguments=("fit", *fragments, *given),
            run_dir=str(folder),
            output="checkpoints",
        )
        executor = LocalExecutor(program, 1, module=module)
        assert outcome_of(executor, cell).state == "done", CellFiles(cell).log.read_text()
        executor.close()
        text = (tmp_path / f"{way}.json").read_text().replace(str(tmp_path / way), "HERE")
        states[way] = json.loads(text)
    for state in states.values():
        assert state["leads"] == [True, True]
        assert all(state["imported"])
    random_states = [state.pop("own random state") for state in states.values()]
    assert set(random_states[0]).isdisjoint(random_states[1])
    assert states["forked"] == states["fresh"]
    results = [(folder / "results.parquet").read_bytes() for folder in folders.values()]
    assert results[0] == results[1]
    fresh, forked = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in folders.values()
    )
    assert fresh.keys() == forked.keys()
    assert all(torch.equal(fresh[name], forked[name]) for name in fresh)


def test_a_forked_cell_reports_its_status_and_its_log(
    forking: LocalExecutor, teacher: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert outcome_of(forking, teacher).state == "done"
    assert "fake cell teacher-mini-r1, threads 1" in CellFiles(teacher).log.read_text()
    server = forking.servers[1].process
    forking.close()
    assert server.returncode == 0
    CellFiles(teacher).clear()
    monkeypatch.setenv("FAKE_FAIL", "teacher")
    assert outcome_of(forking, teacher).reason == "exit status 3"
    forking.close()


def test_a_killed_server_ends_its_cells_and_another_takes_its_place(
    forking: LocalExecutor, teacher: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "60")
    running = forking.start(teacher)
    assert isinstance(running, CellProcess)
    assert running.poll() is None
    assert CellFiles(teacher).state() == "running"
    cell = psutil.Process(running.process.pid)
    os.kill(forking.servers[1].process.pid, signal.SIGKILL)
    forking.servers[1].process.wait()
    outcome = running.poll()
    assert outcome is not None
    assert outcome.reason == "killed by SIGKILL, as where memory runs out"
    assert psutil.wait_procs([cell], timeout=20)[1] == []
    monkeypatch.setenv("FAKE_SECONDS", "0")
    assert outcome_of(forking, teacher).state == "done"
    forking.close()


def test_a_server_that_dies_while_it_is_asked_is_replaced(
    forking: LocalExecutor, teacher: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert outcome_of(forking, teacher).state == "done"
    CellFiles(teacher).clear()
    dead = forking.servers[1]
    os.kill(dead.process.pid, signal.SIGKILL)
    dead.process.wait()
    # It was alive when the runner looked.
    monkeypatch.setattr(ForkServer, "is_alive", property(lambda server: True))
    assert outcome_of(forking, teacher).state == "done"
    assert forking.servers[1] is not dead
    forking.close()


def test_a_running_forked_cell_is_ended_by_its_runner(
    forking: LocalExecutor, teacher: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "60")
    running = forking.start(teacher)
    assert isinstance(running, CellProcess)
    running.ask_to_end()
    running.ensure_ended(time.monotonic() + 20)
    assert running.process.poll() == -signal.SIGTERM
    assert CellFiles(teacher).state() == "interrupted"
    forking.close()


def test_a_module_that_cannot_be_imported_says_why(teacher: Cell) -> None:
    with pytest.raises(RuntimeError, match="No module named 'tests.nowhere'"):
        LocalExecutor(["no-such-program"], 1, module="tests.nowhere").start(teacher)
    assert CellFiles(teacher).state() == "pending"


@pytest.mark.parametrize(
    "options",
    [{"trainer__accelerator": "gpu"}, {"trainer__devices": 2}, {"trainer__num_nodes": 2}],
)
def test_cells_of_several_processes_or_on_a_gpu_start_fresh(
    options: dict[str, object], plan_of: PlanOf
) -> None:
    cpu: dict[str, object] = {"trainer__accelerator": "cpu"}
    assert can_fork(plan_of(**cpu).cells[0])
    assert not can_fork(plan_of(**{**cpu, **options}).cells[0])
