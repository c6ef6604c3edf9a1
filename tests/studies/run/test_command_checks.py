"""A mistaken option of a late stage is told by `plan` and `run` before the first cell trains."""

import shutil
from functools import partial
from pathlib import Path

import pytest

from common.errors import UserError
from kd_privacy.cli import fit_parser, parse_command
from kd_privacy.study_cli import main
from studies.plan.planner import make_plan
from studies.plan.study_file import read_study
from studies.run.checks import Parse, check_commands
from tests.processes import ROOT

STUDY = """\
name: small
data: builtin
families: [gpt2-tiny]
techniques:
  - {fragment: kd, start: init}
  - {fragment: gkd, overrides: {model.kd_loss.beta: 0.2}}
replicates: [1, 2]
shadows: 1
audits: [membership]
overrides: {trainer.max_epochs: 2}
stages:
  teacher: {overrides: {trainer.max_epochs: 3}}
  counterfactual: {overrides: {trainer.max_epochs: 4}}
"""


@pytest.fixture(scope="module")
def parse() -> Parse:
    return partial(parse_command, fit_parser())


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study file over a copy of the shipped fragments."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    path = tmp_path / "configs/studies/small.yaml"
    path.write_text(STUDY)
    return path


def check(path: Path, parse: Parse, **overrides: object) -> None:
    dotted = {name.replace("__", "."): value for name, value in overrides.items()}
    check_commands(make_plan(read_study(path), Path("runs/small"), dotted), parse)


def test_a_good_study_passes_and_equal_commands_are_parsed_once(study: Path, parse: Parse) -> None:
    parsed: list[str] = []

    def noted(arguments: object) -> None:
        assert isinstance(arguments, tuple)
        parsed.append(arguments[arguments.index("--run.name") + 1])
        parse(arguments)

    check(study, noted)
    # The two replicates differ in what the planner sets; counterfactual students in their epochs.
    assert parsed == [
        "shadow_teacher-gpt2_tiny-r1-w0",
        "teacher-gpt2_tiny-r1",
        "control-gpt2_tiny-r1",
        "init-gpt2_tiny-r1",
        *(f"shadow-{name}-gpt2_tiny-r1-w0" for name in ("kd", "gkd")),
        *(f"student-{name}-gpt2_tiny-r1" for name in ("kd", "gkd")),
        "counterfactual_teacher-gpt2_tiny-r1",
        *(f"counterfactual-{name}-gpt2_tiny-r1" for name in ("kd", "gkd")),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param(
            "max_epochs: 4",
            "max_epochs: four",
            r"small.yaml:13: stages.counterfactual.overrides.trainer.max_epochs: "
            r"counterfactual-kd-gpt2_tiny-r1 cannot start: .*Expected a <class 'int'>",
            marks=pytest.mark.slow,
        ),
        (
            "trainer.max_epochs: 4",
            "trainer.max_epoch: 4",
            r"small.yaml:13: stages.counterfactual.overrides.trainer.max_epoch: "
            r"counterfactual-kd-.* \(did you mean trainer.max_epochs\?\)",
        ),
        (
            "model.kd_loss.beta: 0.2",
            "model.kd_loss.betta: 0.2",
            r"small.yaml:6: techniques.1.overrides.model.kd_loss.betta: shadow-gkd-.*did you mean "
            r"beta",
        ),
        pytest.param(
            "{trainer.max_epochs: 2}",
            "{trainer.callbacks: callbacks.MembershipAudi}",
            r"small.yaml:10: overrides.trainer.callbacks: shadow_teacher.*'MembershipAudi'",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line(
    study: Path, parse: Parse, old: str, new: str, message: str
) -> None:
    study.write_text(STUDY.replace(old, new))
    with pytest.raises(UserError, match=message):
        check(study, parse)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "techniques/gkd",
            "model: {init_args: {lm_coeff: 1.0}}\n",
            r"techniques/gkd.yaml:1: model.init_args.lm_coeff: shadow-gkd.*did you mean lm_coef",
        ),
        (
            "audits/membership",
            "trainer:\n  callbacks+:\n  - class_path: callbacks.MembershipAudit\n"
            "    init_args: {fprss: [0.1]}\n",
            r"audits/membership.yaml:4: trainer.callbacks\+.0.init_args.fprss: teacher-.*mean fprs",
        ),
        pytest.param(
            "audits/membership",
            "trainer:\n  callbacks+:\n"
            "  - class_path: callbacks.membership.callback.MembershipAudit\n",
            r"audits/membership.yaml:3: trainer.callbacks\+.0.class_path: teacher-.* has moved",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "techniques/kd",
            "model: {init_args: {kd_loss: {class_path: kdmodules.losses.ForwardK}}}\n",
            r"techniques/kd.yaml:1: model.init_args.kd_loss: .* \(did you mean ForwardKL\?\)",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_mistake_in_a_fragment_is_named_with_its_line(
    study: Path, parse: Parse, name: str, text: str, message: str
) -> None:
    Path(f"configs/{name}.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        check(study, parse)


def test_a_mistake_on_the_command_line_is_named_as_it_was_typed(study: Path, parse: Parse) -> None:
    with pytest.raises(UserError, match=r"^--stages.control.trainer.max_step: control-gpt2_tiny"):
        check(study, parse, stages__control__trainer__max_step=3)
    with pytest.raises(UserError, match=r"^--data.batch_size: shadow_teacher-.*Got value: many"):
        check(study, parse, data__batch_size="many")


@pytest.mark.usefixtures("study")
def test_plan_and_run_say_it_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("plan", "run"):
        arguments = [command, "configs/studies/small.yaml", "--stages.student.trainer.max_epoch=2"]
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: --stages.student.trainer.max_epoch: student-kd-gpt2_tiny-r1")
    assert not Path("runs").exists()
