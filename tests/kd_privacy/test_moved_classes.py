"""A class path from before a move ends in one line that names the new one."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.pytorch.cli import LightningArgumentParser

from kd_privacy.cli import main
from kd_privacy.parsers import MOVED
from tests.configs.conftest import parser
from tests.processes import ROOT

__all__ = ["parser"]

AUDITS = {
    "callbacks.membership.attacks": (
        "class_path: callbacks.MembershipAudit\n"
        "      init_args: {attacks: [{class_path: callbacks.membership.attacks.Loss}]}"
    ),
    "callbacks.blocks.signals": (
        "class_path: callbacks.BlockAudit\n"
        "      init_args: {signals: [{class_path: callbacks.blocks.signals.LogitLens}]}"
    ),
    "callbacks.utility.transfer_callback": (
        "class_path: callbacks.utility.transfer_callback.TransferAudit"
    ),
    "callbacks.memorization.released_callback": (
        "class_path: callbacks.memorization.released_callback.ReleasedMemorizationAudit"
    ),
}


@pytest.fixture(autouse=True)
def _as_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["kd-privacy"])


def told(
    command: Callable[[list[str]], object],
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
) -> str:
    with pytest.raises(SystemExit) as ended:
        command(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("old", AUDITS)
def test_an_old_class_path_is_told_by_its_new_name(
    old: str, parser: LightningArgumentParser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fragment = tmp_path / "audits.yaml"
    fragment.write_text(f"trainer:\n  callbacks+:\n    - {AUDITS[old]}\n", encoding="utf-8")
    command = ["fit", "-c", "configs/base/teacher.yaml", "-c", str(fragment)]
    said = told(parser.parse_args, command, capsys)
    assert said == f"error: class_path {old}.* has moved: write {MOVED[old]}.*\n"


def test_so_does_a_stored_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = "callbacks.membership.attacks"
    fragment = tmp_path / "audits.yaml"
    fragment.write_text(f"trainer:\n  callbacks+:\n    - {AUDITS[old]}\n", encoding="utf-8")
    said = told(main, ["attack", "--statistics=S", "--out=O", "-c", str(fragment)], capsys)
    assert said == f"error: class_path {old}.* has moved: write {MOVED[old]}.*\n"


@pytest.mark.parametrize("old", MOVED)
def test_the_new_name_is_there_and_the_old_one_is_not(old: str) -> None:
    importlib.import_module(MOVED[old])
    package, _, name = old.rpartition(".")
    assert not hasattr(importlib.import_module(package), name)
