"""A small project of fragments and a study file, and planted tables for its cells."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from studies.plan.cells import Plan
from studies.plan.planner import make_plan
from studies.plan.study_file import read_study
from tests.studies import planted as planted_tables
from tests.studies.small_study import finish, write_project


@pytest.fixture(scope="session")
def planted() -> ModuleType:
    """The module that writes tables with a planted leak."""
    return planted_tables


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `configs/` and the study file `configs/studies/small.yaml`."""
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def plan_of(project: Path) -> Callable[..., Plan]:
    """Plans the study of `project` into `runs/small`."""

    def make(**overrides: object) -> Plan:
        study = read_study("configs/studies/small.yaml")
        dotted = {name.replace("__", "."): value for name, value in overrides.items()}
        return make_plan(study, Path("runs/small"), dotted)

    return make


@pytest.fixture
def tables(
    project: Path,
    planted: ModuleType,
    plan_of: Callable[..., Plan],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Planted tables for every cell, where the fake cell finds them."""
    folder = project / "planted"
    for cell in plan_of().cells:
        planted.write_planted(folder / cell.alias, cell.alias, cell.role, cell.seed)
    monkeypatch.setenv("FAKE_TABLES", str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2])]))
    return folder


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all runs of the small study, each with a planted leak and its state."""
    folder = tmp_path_factory.mktemp("finished")
    write_project(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        finish(make_plan(read_study("configs/studies/small.yaml"), Path("runs/small"), {}))
    return folder / "runs"


@pytest.fixture
def finished(project: Path, plan_of: Callable[..., Plan], finished_runs: Path) -> Plan:
    """Plans `project`; for every cell a planted leak and its state are there."""
    shutil.copytree(finished_runs, project / "runs")
    return plan_of()


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what takes most of a report's time: pictures and the charts' JavaScript."""
    monkeypatch.setattr("studies.report.page.write_charts", lambda specs, folder: None)
    monkeypatch.setattr("studies.report.render.vega_bundle", lambda: "")
