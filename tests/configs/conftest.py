"""What the tests of the fragments share: how one is read, composed and built."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from kd_privacy.cli import PrivacyCLI, main

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"


def read_fragment(name: str) -> dict[str, Any]:
    """The contents of ``configs/<name>.yaml``."""
    contents = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    assert isinstance(contents, dict), f"{name} is no mapping"
    return contents


class _ParserBuiltError(Exception):
    """Carries the command's parser out of the command, before it reads any arguments."""

    def __init__(self, parser: LightningArgumentParser) -> None:
        super().__init__()
        self.parser = parser


@pytest.fixture(scope="session")
def parser() -> LightningArgumentParser:
    """The parser of `kd-privacy`, built once: most of a command's start is this."""

    def stop(_: PrivacyCLI, parser: LightningArgumentParser, __: object) -> NoReturn:
        raise _ParserBuiltError(parser)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PrivacyCLI, "parse_arguments", stop)
        with pytest.raises(_ParserBuiltError) as built:
            main(["fit"])
    return built.value.parser


@pytest.fixture(autouse=True)
def _in_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def compose(parser: LightningArgumentParser, *listed: str, subcommand: str = "fit") -> Namespace:
    """Parses the fragments as the command does, left to right."""
    arguments = [part for name in listed for part in ("-c", f"configs/{name}.yaml")]
    if "base/student" in listed:
        arguments += ["--model.teacher", "runs/teacher/export"]
    if "defences/private_ensemble" in listed:
        arguments += ["--model.responses.public", "runs/public/export"]
    return parser.parse_args([subcommand, *arguments])


def build(parser: LightningArgumentParser, config: Namespace) -> Namespace:
    """Makes the objects that the fragments name; no weights and no records are loaded."""
    return parser.instantiate(config)[config.subcommand]


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of a fragment's options."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
