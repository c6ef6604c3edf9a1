"""Imports run downward: between the floors of the house, and between the rooms of a floor."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.processes import ROOT

FLOORS: Mapping[str, Sequence[str]] = {
    "common": (),
    "datamodules": (
        *(
            "sources",
            "record_fields",
            "strict_json",
            "record_files",
            "chats",
            "sensitive",
            "records",
        ),
        "synthetic",
    ),
    "kdmodules": (
        "privacy",
        "models",
        "scoring",
        "sampling",
        "losses",
        "teachers",
        "responses",
        "teacher_cache",
    ),
    "audits": (
        "statistics",
        "bounds",
        "tail",
        "rows",
        "results",
        "record_counts",
        "scoring",
        "context",
        "template_check",
        "membership",
        "memorization",
        "spans",
        "blocks",
        "utility",
        "known_text",
        "mechanism",
        "guarantee",
        "answer",
        "model_card",
    ),
    "callbacks": (),
    "studies": ("plan", "run", "compare", "claims", "report"),
    "kd_privacy": (),
}
"""Floors and their rooms, from the ground up; what else lies on a floor is above its rooms."""


def rank(module: str) -> tuple[int, int]:
    """Returns the height of a module: its floor, and its room there."""
    floor, *rest = module.split(".")
    rooms = FLOORS[floor]
    room = rooms.index(rest[0]) if rest and rest[0] in rooms else len(rooms)
    return list(FLOORS).index(floor), room


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yields line and module of every import of a file from this project, lazy ones included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] in FLOORS:
                yield node.lineno, name


def upward(root: Path) -> list[str]:
    """Returns every line of a tree that imports something from a higher floor or room."""
    found = []
    for floor in FLOORS:
        for path in sorted((root / floor).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            module = ".".join(part for part in parts if part != "__init__")
            for line, name in imports(path):
                own, other = rank(module), rank(name)
                # A package says what it offers: its own file imports from its rooms.
                if other > own and not name.startswith(f"{module}."):
                    found.append(f"{path.relative_to(root)}:{line} imports {name}")
    return found


def test_every_arrow_runs_downward() -> None:
    assert upward(ROOT) == []


def test_the_line_that_breaks_it_is_named(tmp_path: Path) -> None:
    for floor in FLOORS:
        (tmp_path / floor / "statistics").mkdir(parents=True)
    (tmp_path / "audits" / "statistics" / "wrong.py").write_text(
        "import math\nfrom audits import results\n\n\ndef lazy() -> None:\n"
        "    from callbacks.run import RunContext\n",
        encoding="utf-8",
    )
    assert upward(tmp_path) == [
        "audits/statistics/wrong.py:2 imports audits.results",
        "audits/statistics/wrong.py:6 imports callbacks.run.RunContext",
    ]


def test_the_audit_library_knows_no_trainer() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / "audits").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and any(
            name.split(".")[0] in ("lightning", "pytorch_lightning")
            for name in (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
            )
        )
    ]
    assert found == []
