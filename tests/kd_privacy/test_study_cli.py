"""The command line of studies: plan, report, and mistakes in one line."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from audits.answer.console import LINES
from kd_privacy.study_cli import main
from studies.plan.cells import Plan
from studies.run.cell_state import CellFiles
from tests.processes import ROOT

OUT = Path("runs/small")


@pytest.fixture(autouse=True)
def _unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fragments of the small project hold names that no command has."""
    monkeypatch.setattr("studies.run.checks.check_commands", lambda plan, parse: None)


@pytest.mark.usefixtures("without_pictures", "finished")
def test_a_run_ends_with_its_page_where_asked(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = ["configs/studies/small.yaml", "--run_dir", str(OUT)]
    assert main(["run", *study, "--report"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("Student · kd") == 1
    assert f"page     {OUT}/report/index.html\n" in printed
    assert (project / OUT / "report/index.html").is_file()


@pytest.mark.usefixtures("without_pictures")
def test_the_command_line_plans_and_reports(
    finished: Plan,
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = "configs/studies/small.yaml"
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["plan", study, "--run_dir", str(OUT)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("  done\n") == 5
    assert printed.count("1 min 15 s (measured)") == 5
    assert printed.count("parameters and memory unknown: ") == 5
    assert printed.splitlines()[-3:] == [
        "5 cells, 5 of them done",
        "memory: unknown",
        "time: nothing is left to do",
    ]
    assert finished.cells[3].command in printed.replace("\n", " ")
    assert main(["report", study, "--run_dir", str(OUT)]) == 2
    assert "plan.json: no such file" in capsys.readouterr().err
    (OUT / "plan.json").write_text(json.dumps(finished.as_dict()))
    assert main(["report", study, "--run_dir", str(OUT)]) == 0
    printed = capsys.readouterr().out
    assert "Student · kd" in printed
    assert len(printed.splitlines()) <= LINES
    assert [line.split(maxsplit=1) for line in printed.splitlines()[-4:]] == [
        ["page", f"{OUT}/report/index.html"],
        ["summary", f"{OUT}/report/audit.json"],
        ["curves", f"tensorboard --logdir {OUT}/tensorboard"],
        ["cells", f"5 of 5 done, in {OUT}"],
    ]
    links = {link.name: link.resolve() for link in (OUT / "tensorboard").iterdir()}
    assert links == {cell.alias: Path(cell.run_dir).resolve() for cell in finished.cells}
    (project / "configs/techniques/kd.yaml").write_text("model: {lr: 0.1}\n")
    gate = ["--fail_if", "membership/loss.auroc.value > 0.5"]
    assert main(["report", study, "--run_dir", str(OUT), *gate]) == 3
    failed = capsys.readouterr().err
    assert failed.startswith(f"failed: {gate[1]}: of Student · kd it is 0.")
    assert failed.count("\n") == 1
    assert "changed since the last run" in (OUT / "report/index.html").read_text()


@pytest.mark.usefixtures("without_pictures")
def test_a_study_folder_can_be_moved(
    finished: Plan, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (OUT / "plan.json").write_text(json.dumps(finished.as_dict()))
    moved = OUT.rename(project / "kept")
    assert main(["report", "configs/studies/small.yaml", "--run_dir", str(moved), "--full"]) == 0
    printed = capsys.readouterr().out
    # In 80 columns names and intervals take several lines, and nothing is cut.
    assert "Student" in printed
    assert "…" not in printed.partition("\nThe teacher")[0]
    page = (moved / "report/index.html").read_text()
    assert " cells are not done" not in page
    assert "changed since the last run" not in page


@pytest.fixture
def known(project: Path) -> Path:
    """`project` with families of which one knows how large they are."""
    network = "{family: gpt2, config: {n_layer: 1, n_embd: 8, n_head: 1, n_positions: 512}}"
    for name in ("mini", "tiny"):
        (project / f"configs/families/{name}.yaml").write_text(f"model: {{network: {network}}}\n")
    tokenizer = "data: {source: ./records.jsonl, tokenizer: trained, vocabulary: 300}\n"
    (project / "configs/data/tiny.yaml").write_text(tokenizer)
    return project


def test_a_run_says_how_long_the_rest_will_take(
    known: Path,
    plan_of: Callable[..., Plan],
    tables: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for cell in plan_of().cells:
        before = replace(cell, run_dir=f"{OUT}/cells/{cell.alias}-00000000")
        CellFiles(before).write("done", {"seconds": 2.0, "resumed": False})
    fake = [sys.executable, str(ROOT / "tests/studies/run/fake_cell.py")]
    monkeypatch.setattr("studies.run.executors.fit_program", lambda: fake)
    monkeypatch.setattr("kd_privacy.study_cli.FIT_MODULE", "tests.studies.run.fake_cell")
    arguments = ["run", "configs/studies/small.yaml", "--run_dir", str(OUT)]
    assert main([*arguments, "--workers", "1"]) == 0
    printed = capsys.readouterr().out.splitlines()
    ended = [line for line in printed if line.startswith("done ")]
    assert [line.endswith("; less than a minute left") for line in ended] == [True] * 4 + [False]
    told = {line.split()[1]: "AUROC" in line for line in ended}
    shown = ("teacher", "student", "control")
    assert told == {cell.alias: cell.role in shown for cell in plan_of().cells}
    ending = printed[printed.index(ended[-1]) + 1 :]
    assert len(ending) <= LINES
    assert any(line.startswith("Student · kd") for line in ending)


def test_a_network_that_cannot_be_is_named(known: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", "configs/studies/small.yaml", "--model.network.config.n_head", "3"]
    assert main(arguments) == 2
    assert "no gpt2 network has such a configuration: " in capsys.readouterr().err


def test_a_plan_says_what_its_cells_will_take(
    known: Path, plan_of: Callable[..., Plan], capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = plan_of(trainer__accelerator="cpu").cells[0]
    CellFiles(replace(teacher, run_dir=f"{OUT}/cells/{teacher.alias}-00000000")).write(
        "done", {"seconds": 600.0, "resumed": False}
    )
    arguments = ["plan", "configs/studies/small.yaml", "--run_dir", str(OUT), "--terms"]
    assert main([*arguments, "--workers", "5", "--trainer.accelerator", "cpu"]) == 0
    printed = capsys.readouterr().out
    # 300 x 8 embeddings, 512 x 8 positions, a block of 12 x 64 + 13 x 8, a final norm.
    assert printed.count("7.38 k parameters") == 5
    assert "10 min 00 s (mean of 1 cell like it)" in printed
    assert "optimiser state" in printed
    assert " in 32-true, activations aside; " in printed
    last = printed.splitlines()[-3:]
    assert last[0] == "5 cells, 0 of them done"
    assert last[1].startswith("memory: roughly ")
    assert last[2] == "time: no timing yet for 4 of 5 cells left"


def test_a_plan_of_some_cells_adds_up_those_and_what_they_need(
    known: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["plan", "configs/studies/small.yaml", "--run_dir", str(OUT)]
    assert main([*arguments, "--only", "student-*"]) == 0
    printed = capsys.readouterr().out
    assert "2 cells, 0 of them done" in printed
    named = [line.split("-")[0] for line in printed.splitlines() if line.endswith("  pending")]
    assert named == ["teacher", "student"]
    assert main([*arguments, "--only", "studnet-*"]) == 2
    assert "--only studnet-*: no cell of that name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "configs/studies/small.yaml", "--worker", "2"], "--worker: no such option"),
        (["plan", "configs/studies/small.yaml", "--data.source"], "--data.source: a value is"),
        (["report", "configs/studies/small.yaml", "--a.b", "1"], "a report takes no options"),
        (
            ["report", "configs/studies/small.yaml", "--fail_if", "loss > 1"],
            "'loss > 1' is no file",
        ),
        (["plan", "nowhere.yaml"], "nowhere.yaml: no such file"),
    ],
)
def test_mistakes_on_the_command_line_are_named(
    project: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
