"""A small project of fragments and a study file, and planted tables for its cells."""

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from studies.cell_state import CellFiles
from studies.plan import Plan
from studies.planner import make_plan
from studies.study_file import read_study
from tests.studies import planted as planted_tables

STUDY = """\
name: small
title: A small study
description: For a test.
data: tiny
families:
  - {teacher: mini, sizes: [tiny]}
techniques: [kd]
controls: [control, counterfactual]
audits: [membership]
"""
FRAGMENTS = {
    "base": ("teacher", "counterfactual_teacher", "control", "init", "student"),
    "data": ("tiny",),
    "families": ("mini", "tiny"),
    "techniques": ("kd", "gkd"),
    "audits": ("membership",),
    "recipes/teacher": ("mini",),
}


@pytest.fixture(scope="session")
def planted() -> ModuleType:
    """The module that writes tables with a planted leak."""
    return planted_tables


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `configs/` and the study file `configs/studies/small.yaml`."""
    for kind, names in FRAGMENTS.items():
        for name in names:
            path = tmp_path / "configs" / kind / f"{name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"# {kind}\nmodel:\n  {name}_{path.parent.name}: 1\n")
    (tmp_path / "records.jsonl").write_text('{"instruction": "a"}\n')
    (tmp_path / "configs/data/tiny.yaml").write_text("data:\n  source: ./records.jsonl\n")
    study = tmp_path / "configs/studies/small.yaml"
    study.parent.mkdir()
    study.write_text(STUDY)
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


@pytest.fixture
def finished(tables: Path, plan_of: Callable[..., Plan], planted: ModuleType) -> Plan:
    """Plans `project` and writes a planted leak and its states for every cell."""
    plan = plan_of()
    for cell in plan.cells:
        files = CellFiles(cell)
        planted.write_planted(files.folder, cell.alias, cell.role, cell.seed)
        (files.folder / "export").mkdir()
        (files.folder / "export" / "model.txt").write_text(cell.alias)
        files.write("done", {"seconds": 75.0, "versions": {"torch": "2"}, "machine": "x86"})
    return plan
