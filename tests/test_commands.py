"""Commands of README and docs: each is one that the parsers take as it stands.

What is cheap runs, on tiny models: here and in `tests/kd_privacy/test_audit_command.py` what
docs/audit_your_model.md has, in `tests/kd_privacy/test_audit.py` the code of README.
"""

import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from lightning.pytorch.cli import LightningArgumentParser

from common.errors import UserError
from kd_privacy import study_cli
from kd_privacy.__main__ import main
from kd_privacy.attack_cli import attack_parser
from kd_privacy.audit_cli import audit_parser
from studies.plan.study_file import read_study
from tests.configs.conftest import parser
from tests.kd_privacy.test_audit_command import folder
from tests.processes import ROOT
from tests.test_docs import PAGES

__all__ = ["folder", "parser"]

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(kd-(?:privacy|study) [a-z][^`]* [^`]+|make [a-z][\w-]*)`")
SHELL = re.compile(r"&&|\n")
NOT_OURS = ("cd", "export", "for", "ln", "ray", "RUN=$(echo")
WHOLE_RUN = ["base/teacher", "-c", "data/builtin", "-c", "families/gpt2-mini"]
STAND_INS = {"FILE": ["configs/studies/quickstart.yaml"], "$RUN/config.yaml": WHOLE_RUN}
"""What a reader has to fill in, or has after another command: here what is there."""


def commands(text: str) -> Iterator[list[str]]:
    """Yields the words of each command of a page, without what the shell does around it."""
    blocks = [block for language, block in FENCED.findall(text) if not language]
    prose = FENCED.sub("", text)
    for block in (*blocks, *(" ".join(found.split()) for found in INLINE.findall(prose))):
        for line in SHELL.split(block.replace("\\\n", " ")):
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=\w+", words[0]):
                words = words[1:]
            if words and words[0] not in NOT_OURS:
                yield [given for word in words for given in STAND_INS.get(word, [word])]


class Checked:
    """Hands a command to the parser that it would meet; each is built once."""

    def __init__(self, parser: LightningArgumentParser) -> None:
        self.parser = parser
        self.programs: dict[str, Callable[[list[str]], object]] = {
            "kd-privacy": self.kd_privacy,
            "kd-study": self.kd_study,
            "make": self.make,
            "pip": self.pip,
            ".venv/bin/pip": self.pip,
            "python": self.python,
            "torchrun": self.launched,
            "srun": self.launched,
        }

    def __call__(self, words: Sequence[str]) -> None:
        program, *rest = words
        assert program in self.programs, f"{program}: no command; what one prints is ```text"
        self.programs[program](rest)

    def launched(self, words: list[str]) -> None:
        self.kd_privacy(words[words.index("kd_privacy") + 1 :])

    def kd_privacy(self, words: list[str]) -> None:
        command, *rest = words
        if rest in (["--help"], ["--help_all"]):
            return
        if command == "audit":
            audit_parser().parse_args(rest)
        elif command == "attack":
            attack_parser().parse_args(rest)
        else:
            self.parser.parse_args(["validate" if command == "show" else command, *rest])

    def kd_study(self, words: list[str]) -> None:
        options, overrides = study_cli._parse(words)
        read_study(options.file)
        common = [f"--{n}={yaml.safe_dump(v)}" for n, v in overrides.items() if "stages." not in n]
        if common:
            self.parser.parse_args(["fit", "-c", *WHOLE_RUN, *common])

    def make(self, words: list[str]) -> None:
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert f"\n{words[0]}:" in makefile, f"make {words[0]}: no such target"

    def pip(self, words: list[str]) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for extra in re.findall(r"kd-privacy\[(\w+)\]", " ".join(words)):
            assert extra in project["optional-dependencies"]

    def python(self, words: list[str]) -> None:
        assert words[0] == "-m"
        if words[1] == "kd_privacy":
            self.kd_privacy(words[2:])
        else:
            assert find_spec(words[1]) is not None


@pytest.fixture
def checked(parser: LightningArgumentParser, monkeypatch: pytest.MonkeyPatch) -> Checked:
    monkeypatch.chdir(ROOT)
    return Checked(parser)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_one_that_the_parsers_take(page: Path, checked: Checked) -> None:
    for words in commands(page.read_text(encoding="utf-8")):
        try:
            checked(words)
        except (SystemExit, UserError) as error:
            pytest.fail(f"{page.name}: {shlex.join(words)}: {error}")


@pytest.mark.parametrize(
    "line",
    [
        "kd-privacy audit DIR --members A.jsonl --nonmembers B.jsonl --templat alpaca",
        "kd-privacy fit -c base/teacher -c data/builtin -c families/gpt2-mini --model.lerning 1",
        "kd-study plan configs/studies/quickstart.yaml --shards 2",
        "kd-study run configs/studies/quickstart.yaml --trainer.max_epoch 2",
        "make demonstration",
    ],
)
def test_a_misspelt_command_is_found(line: str, checked: Checked) -> None:
    (words,) = commands(f"```\n{line}\n```\n")
    with pytest.raises((SystemExit, UserError, AssertionError)):
        checked(words)


def test_the_command_of_the_readme_is_the_one_that_is_run() -> None:
    names = ("README.md", "docs/audit_your_model.md")
    readme, page = ((ROOT / name).read_text(encoding="utf-8") for name in names)
    (line,) = re.findall(r"^kd-privacy audit .*$", readme, re.MULTILINE)
    assert f"\n{line}\n" in page


@pytest.mark.slow
def test_what_the_page_of_audits_shows_runs_as_it_stands(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    text = (ROOT / "docs/audit_your_model.md").read_text(encoding="utf-8")
    shown = next(words for words in commands(text) if words[1] == "show")
    assert main(shown[1:]) == 0
    assert "⟦Locker 100 opens with" in capsys.readouterr().out
    code = next(block for language, block in FENCED.findall(text) if language == "python")
    exec(code, {})
    assert "swap_estimate" not in (said := capsys.readouterr().out)  # no counterfactual
    assert "relative_leakage" in said
    assert Path("pair-report/index.html").is_file()
