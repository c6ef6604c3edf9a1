"""The short help: true to the parser, and given before anything heavy is imported."""

import re
import shlex
import subprocess
import sys

import pytest
import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from kd_privacy.__main__ import COMMANDS, help_page, main
from kd_privacy.attack_cli import attack_parser
from kd_privacy.audit_cli import audit_parser
from kd_privacy.study_cli import main as study_main
from tests.configs.conftest import parser
from tests.processes import ROOT

__all__ = ["parser"]

OPTION = re.compile(r"^  (?:-\w, )?--(?P<name>[\w.]+)(?P<rest>.*)$", re.MULTILINE)
DEFAULT = re.compile(r"\(default: (.*)\)$")
WITHOUT_VALUE = ("config", "print_config", "references.models.NAME", "trainer.callbacks")
LOSS, SOURCE = "kdmodules.losses.ForwardKL", "kdmodules.responses.DatasetResponses"
STUDENT = ["--model=kdmodules.StudentModule", "--data=datamodules.InstructionDataModule"]
STUDENT += ["--model.teacher=T", f"--model.kd_loss={LOSS}", f"--model.responses={SOURCE}"]
GIVEN = (None, "M", "A", "B", "S", "O", "T", LOSS, SOURCE)
"""What an option without a default can be in the test: left out, or as the test gives it."""
EXTERNAL = ["-c", "configs/audits/external.yaml", "--model.source=M", "--data.members=A"]


def real_options(parser: LightningArgumentParser, command: str) -> Namespace:
    """What the parser makes of a command line that gives the classes alone."""
    if command == "audit":
        given = ["M", "--members=A", "--nonmembers=B"]
        return Namespace(**vars(audit_parser().parse_args(given)))
    if command == "attack":
        return attack_parser().parse_args(["--statistics=S", "--out=O"])
    classes = STUDENT if command == "fit" else [*EXTERNAL, "--data.nonmembers=B"]
    known = "validate" if command == "show" else command
    return parser.parse_args([known, *classes])[known]


def real_value(options: Namespace, name: str) -> object:
    """The value of an option that the page names as a user writes it."""
    group, _, rest = name.partition(".")
    full = f"{group}.init_args.{rest}" if group in ("model", "data") else name
    assert full in options, f"--{name}: the parser knows no such option"
    value = options[full]
    return value.class_path if isinstance(value, Namespace) else value


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_the_page_is_the_parsers_and_so_is_its_default(
    parser: LightningArgumentParser, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    options = real_options(parser, command)
    shown = list(OPTION.finditer(help_page(command)))
    assert len(shown) >= 3
    for option in shown:
        name = option["name"]
        stated = DEFAULT.search(option["rest"])
        if name in WITHOUT_VALUE:
            assert stated is None
        elif stated is not None:
            assert real_value(options, name) == yaml.safe_load(stated[1]), name
        else:
            assert real_value(options, name) in GIVEN, name


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_the_example_of_a_page_names_files_that_are_there(command: str | None) -> None:
    text = help_page(command).replace("\\\n", " ")
    examples = [line for line in text.splitlines() if line.startswith("  kd-privacy ")]
    assert examples
    named = [word for line in examples for word in shlex.split(line) if word.startswith("configs/")]
    assert named or command == "audit"
    assert [word for word in named if not (ROOT / word).is_file()] == []


def test_help_imports_neither_torch_nor_lightning() -> None:
    heavy = ["torch", "lightning", "transformers", "numpy", "pandas", "jsonargparse", "rich"]
    program = (
        "import io, sys\n"
        "from contextlib import redirect_stderr, redirect_stdout, suppress\n"
        "import kd_privacy\n"
        "from kd_privacy.__main__ import main\n"
        "from kd_privacy.study_cli import main as study_main\n"
        "with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):\n"
        "    for line in ('--help', 'fit --help', 'show -h', 'attack --help', '', 'fitt'):\n"
        "        main(line.split())\n"
        "    for line in ('audit -h', 'audit', 'audit M --force', 'audit M -c x'):\n"
        "        main(line.split())\n"
        "    for line in ('-h', 'plan -h', 'run -h', 'report -h', 'claims -h', '', 'x'):\n"
        "        with suppress(SystemExit):\n"
        "            study_main(line.split())\n"
        f"print([name for name in {heavy} if name in sys.modules])\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert finished.stdout == "[]\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no command: give one of fit, validate, audit, show, attack"),
        (["fitt", "-c", "x.yaml"], "fitt: no such command (did you mean fit?)"),
        (
            ["train", "--help"],
            "train: no such command (there are fit, validate, audit, show, attack)",
        ),
    ],
)
def test_a_wrong_first_word_ends_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err == f"error: {said}; see kd-privacy --help\n"


def test_help_all_is_the_parsers_own(
    parser: LightningArgumentParser, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["fit", "--help_all"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "--trainer.reload_dataloaders_every_n_epochs" in printed
    assert "--references.allow_pickle" in printed


@pytest.mark.parametrize("words", [[], ["rnu", "study.yaml"], ["plan"]])
def test_a_study_command_that_is_not_whole_ends_in_two_lines(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert study_main(words) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) <= 2
    assert said[-1].startswith("error: ")
