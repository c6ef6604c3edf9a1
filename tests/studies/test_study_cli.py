"""The command line of studies: plan, report, and mistakes in one line."""

import json
from pathlib import Path

import pytest

from studies.plan import Plan
from studies.study_cli import main

OUT = Path("runs/small")


def test_the_command_line_plans_and_reports(
    finished: Plan, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = "configs/studies/small.yaml"
    assert main(["plan", study, "--run_dir", str(OUT)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("done") == 5
    assert finished.cells[3].command in printed.replace("\n", " ")
    assert main(["report", study, "--run_dir", str(OUT)]) == 2
    assert "plan.json: no such file" in capsys.readouterr().err
    (OUT / "plan.json").write_text(json.dumps(finished.as_dict()))
    assert main(["report", study, "--run_dir", str(OUT)]) == 0
    printed = capsys.readouterr().out
    assert "Student · kd" in printed
    last_lines = [f"page: {OUT}/report/index.html", f"curves: tensorboard --logdir {OUT}"]
    assert printed.splitlines()[-2:] == last_lines
    (project / "configs/techniques/kd.yaml").write_text("model: {lr: 0.1}\n")
    assert main(["report", study, "--run_dir", str(OUT)]) == 0
    assert "changed since the last run" in (OUT / "report/index.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "configs/studies/small.yaml", "--worker", "2"], "--worker: no such option"),
        (["plan", "configs/studies/small.yaml", "--data.source"], "--data.source: a value is"),
        (["report", "configs/studies/small.yaml", "--a.b", "1"], "a report takes no options"),
        (["plan", "nowhere.yaml"], "nowhere.yaml: no such file"),
    ],
)
def test_mistakes_on_the_command_line_are_named(
    project: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
