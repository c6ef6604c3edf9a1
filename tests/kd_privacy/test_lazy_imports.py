"""What many runs do without is imported at its first use: seconds of every command's start."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.processes import ROOT

FLOORS = ("common", "datamodules", "kdmodules", "audits", "callbacks")
COSTLY = {
    "captum",
    "datasets",
    "datasketch",
    "pandas",
    "peft",
    "ray",
    "rouge_score",
    "sklearn",
    "tensorboard",
    "torchmetrics",
}


def at_import(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    """Yields line and package of the imports that run when a module is imported."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, (node.module or "").split(".")[0]
        elif isinstance(node, ast.If) and ast.unparse(node.test) != "TYPE_CHECKING":
            yield from at_import(node.body + node.orelse)
        elif isinstance(node, ast.Try):
            yield from at_import(node.body)


def early(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root)}:{line} imports {package}"
        for floor in FLOORS
        for path in sorted((root / floor).rglob("*.py"))
        for line, package in at_import(ast.parse(path.read_text(encoding="utf-8")).body)
        if package in COSTLY
    ]


def test_no_floor_below_the_studies_imports_what_a_run_may_do_without() -> None:
    assert early(ROOT) == []


def test_the_line_that_does_is_named(tmp_path: Path) -> None:
    (tmp_path / "audits").mkdir()
    (tmp_path / "audits" / "wrong.py").write_text(
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import peft\n"
        "from sklearn.base import clone\n\n\ndef later() -> None:\n    import datasets\n",
        encoding="utf-8",
    )
    assert early(tmp_path) == ["audits/wrong.py:5 imports sklearn"]
