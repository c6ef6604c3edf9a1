"""Files of a study that were damaged are named, with how to go on; the rest stays as it is."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kd_privacy.study_cli import main
from studies.plan.cells import Plan
from studies.run.cell_state import CellFiles

OUT = Path("runs/small")
STUDY = ["configs/studies/small.yaml", "--run_dir", str(OUT)]


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def zeroed(content: bytes) -> bytes:
    """The same number of bytes, of which some in the middle are gone."""
    middle = len(content) // 3
    return content[:middle] + bytes(60) + content[middle + 60 :]


def emptied(content: bytes) -> bytes:
    return b"{}"


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize(
    ("name", "damage", "commands"),
    [
        ("results.parquet", cut, ("plan", "report", "claims")),
        ("results.parquet", zeroed, ("plan", "report", "claims")),
        ("scores.parquet", zeroed, ("report",)),
        ("state.json", cut, ("plan", "claims")),
        ("audit.json", cut, ("report",)),
        ("../../plan.json", cut, ("report", "claims")),
        ("../../plan.json", emptied, ("report",)),
    ],
)
def test_it_is_named_in_one_line(
    name: str,
    damage: Callable[[bytes], bytes],
    commands: tuple[str, ...],
    finished: Plan,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("studies.run.checks.check_commands", lambda plan, parse: None)
    (OUT / "plan.json").write_text(json.dumps(finished.as_dict()))
    path = CellFiles(finished.cells[0]).folder / name
    if not path.exists():
        path.write_text('{"tested": []}')
    path.write_bytes(damage(path.read_bytes()))
    others = {one: one.read_bytes() for one in OUT.rglob("*.parquet") if one != path}
    for command in commands:
        assert main([command, *STUDY]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert path.name in line
        assert "delete" in line or "what is done stays" in line
    assert {one: one.read_bytes() for one in others} == others


@pytest.mark.usefixtures("without_pictures")
def test_comparisons_that_cannot_be_read_are_computed_again(
    finished: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    (OUT / "plan.json").write_text(json.dumps(finished.as_dict()))
    assert main(["claims", *STUDY]) == 0
    path = OUT / "comparisons.parquet"
    whole = path.read_bytes()
    path.write_bytes(cut(whole))
    assert main(["claims", *STUDY]) == 0
    assert path.stat().st_size == len(whole)


@pytest.mark.usefixtures("without_pictures")
def test_a_title_is_no_markup(
    finished: Plan, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    title = "A [/bold] title of [red]ours[/] \\[x]"
    study = project / STUDY[0]
    study.write_text(study.read_text().replace("A small study", f"'{title}'"))
    (OUT / "plan.json").write_text(json.dumps({**finished.as_dict(), "title": title}))
    assert main(["report", *STUDY, "--full"]) == 0
    assert title in capsys.readouterr().out
