"""Levels of a factor are compared only where all else is equal."""

from pathlib import Path

import yaml

from studies.claims.designs import design_of
from studies.plan.cells import Cell
from tests.studies.claims.tables import cell


def configured(folder: Path, name: str, loss: str, source: str, lr: float = 0.1) -> Cell:
    path = folder / name
    path.mkdir()
    model = {
        "kd_loss": {"class_path": f"kdmodules.losses.{loss}", "init_args": {"beta": None}},
        "responses": {"class_path": f"kdmodules.responses.{source}"},
        "reduction": {"kd_ratio": 1.0},
        "optimizer": {"lr": lr},
    }
    content = {"model": {"init_args": model}, "data": {"init_args": {"batch_size": 4}}}
    (path / "config.yaml").write_text(yaml.safe_dump(content))
    return cell("student", name, 1, str(path))


def test_levels_are_compared_only_where_all_else_is_equal(tmp_path: Path) -> None:
    students = [
        configured(tmp_path, "a", "ForwardKL", "Dataset"),
        configured(tmp_path, "b", "ReverseKL", "Dataset"),
        configured(tmp_path, "c", "ForwardKL", "Teacher"),
        configured(tmp_path, "d", "ReverseKL", "Teacher"),
        configured(tmp_path, "e", "Skew", "Student"),
        configured(tmp_path, "f", "Skew", "Dataset", lr=0.2),
    ]
    objective, source = (design_of(students, factor) for factor in ("objective", "student data"))
    losses = {"a": "ForwardKL", "b": "ReverseKL", "c": "ForwardKL", "d": "ReverseKL"}
    assert objective == losses
    assert source == {"a": "Dataset", "b": "Dataset", "c": "Teacher", "d": "Teacher"}
    assert design_of(students[4:], "objective") == "no two students differ in their objective alone"
    assert "no config.yaml" in str(design_of([cell("student", "z", 1)], "objective"))
