"""What a step cannot do is told by `plan` and `run` before anything trains, in one line."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import UserError
from kd_privacy.study_cli import main
from studies.plan.cells import Cell
from studies.plan.planner import make_plan
from studies.plan.study_file import read_study
from studies.run.checks import check_steps
from tests.processes import ROOT

GPT2 = "configs/studies/gpt2.yaml"


@pytest.fixture(scope="module")
def students() -> list[Cell]:
    """A published student of each technique on eight devices, by the study's own files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        plan = make_plan(read_study(GPT2), Path("runs/none"), {"trainer.devices": 8})
    base = [one for one in plan.cells if one.size == "gpt2-base" and one.replicate == 1]
    return [one for one in base if one.role == "student"]


@pytest.fixture(autouse=True)
def _in_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_published_study_can_be_trained_on_eight_devices(students: list[Cell]) -> None:
    assert len(students) == 6
    check_steps(students)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("data.batch_size", "48", "model.responses.rollouts=256 is no multiple .*batch_size=48"),
        (
            "data.published_devices",
            "16",
            "model.responses.rollouts=256 is no multiple .*batch_size=1024",
        ),
        ("data.batch_size", "0", "data.batch_size is 0: give at least 1"),
        ("data.published_devices", "0", "data.published_devices is 0: give at least 1"),
        ("data.max_tokens", "500", "max_new_tokens=256 of model.responses exceed data.max_tokens"),
        ("model.lm_coef", "-1", "model.lm_coef is -1"),
        ("model.plain_text.sources", "null", "but there is no plain text"),
        ("model.text_kd_ratio", "2", "model.text_kd_ratio is 2"),
        ("model.teacher_cache.kind", "full", "teacher_cache cannot serve StudentResponses"),
        ("model.reduction.temperature", "2", "rollouts are drawn at temperature 1"),
        (
            "model.kd_loss",
            "kdmodules.losses.PolicyGradient",
            "PolicyGradient needs advantages, old_logp, mixture_weight of every token, and "
            "DatasetResponses leaves none: set model.responses to TeacherMixedRollouts",
        ),
        (
            "model.kd_loss",
            "kdmodules.losses.DatasetTargets",
            "DatasetTargets needs from_dataset of every token, and DatasetResponses leaves none: "
            "set model.responses to MixedResponses",
        ),
    ],
)
def test_a_step_that_cannot_be_done_is_named(
    option: str, value: str, words: str, students: list[Cell]
) -> None:
    changed = [replace(one, arguments=(*one.arguments, f"--{option}", value)) for one in students]
    with pytest.raises(UserError, match=rf"^student-\S+ cannot train: .*{words}"):
        check_steps(changed)


@pytest.mark.slow
def test_it_stops_the_command_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("plan", "run"):
        given = ["--stages.student.data.batch_size", "48", "--run_dir", str(tmp_path)]
        assert main([command, "configs/studies/quickstart.yaml", *given]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
        assert re.match(r"error: student-minillm-\S+ cannot train: model\.responses", line)
    assert not list(tmp_path.iterdir())
