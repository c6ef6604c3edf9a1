"""A run that is killed and resumed ends with the weights and the rows of one that was not."""

from pathlib import Path

import pandas as pd
import pytest

from kd_privacy.cli import main
from tests.integration.conftest import (
    AUDITS,
    fragments,
    same_bits,
    table,
    weights,
)
from tests.processes import run_command

DROPOUT = "--model.network.config.resid_pdrop=0.1"


def arguments(base: str, run_dir: Path) -> list[str]:
    return [
        *fragments(base),
        *AUDITS,
        DROPOUT,
        "--trainer.accumulate_grad_batches=2",
        "--recovery.save_every_n_steps=2",
        f"--run_dir={run_dir}",
    ]


def killer(before: int) -> list[str]:
    return [
        "--trainer.callbacks+=tests.integration.killer.Killer",
        f"--trainer.callbacks.before={before}",
    ]


def test_three_kills_change_nothing(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finished = run_command(arguments("teacher", whole))
    assert finished.returncode == 0, finished.stderr
    # An epoch has 2 x 6 micro-batches: in mid-epoch before any validation, at a step's second
    # micro-batch, and in the second epoch.
    resume: list[str] = []
    for before in (5, 8, 15):
        killed = run_command([*arguments("teacher", broken), *killer(before), *resume])
        assert killed.returncode == -9, killed.stderr
        resume = ["--ckpt_path=last"]
    resumed = run_command([*arguments("teacher", broken), *resume])
    assert resumed.returncode == 0, resumed.stderr
    assert same_bits(weights(whole), weights(broken))
    for name in ("results", "scores"):
        pd.testing.assert_frame_equal(table(whole, name), table(broken, name))
    assert "warning: trainer.callbacks was" in killed.stderr


def test_last_without_a_checkpoint_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments("teacher", tmp_path / "new"), "--ckpt_path=last"])
    assert stopped.value.code == 2
    assert "checkpoints/last.ckpt does not exist" in capsys.readouterr().err


def test_a_used_folder_is_refused(teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = weights(teacher)
    with pytest.raises(SystemExit) as stopped:
        main(arguments("teacher", teacher))
    assert stopped.value.code == 2
    assert "already holds a run (checkpoints/last.ckpt)" in capsys.readouterr().err
    assert same_bits(before, weights(teacher))
