"""A run that is killed, or told to end, and resumed ends with the weights and rows of one whole."""

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

GOES_ON = "the same command with --ckpt_path last goes on from the last save"
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


def killer(before: int, sends: str = "SIGKILL", rank: int = 0) -> list[str]:
    options = [f"before={before}", f"sends={sends}", f"rank={rank}"]
    return [
        "--trainer.callbacks+=tests.integration.killer.Killer",
        *[f"--trainer.callbacks.{option}" for option in options],
    ]


def test_a_kill_and_two_orders_to_end_change_nothing(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finished = run_command(arguments("teacher", whole))
    assert finished.returncode == 0, finished.stderr
    # An epoch has 2 x 6 micro-batches: in mid-epoch before any validation, at a step's second
    # micro-batch, and in the second epoch.
    resume: list[str] = []
    for before, sends, status, said in (
        (5, "SIGKILL", -9, ""),
        (8, "SIGTERM", 143, f"terminated: {GOES_ON}"),
        (15, "SIGINT", 130, f"interrupted: {GOES_ON}"),
    ):
        ended = run_command([*arguments("teacher", broken), *killer(before, sends), *resume])
        assert ended.returncode == status, ended.stderr
        for noise in ("Traceback", "Detected KeyboardInterrupt"):
            assert noise not in ended.stderr
        assert said in ended.stderr
        resume = ["--ckpt_path=last"]
    assert "warning: trainer.callbacks was" in ended.stderr
    resumed = run_command([*arguments("teacher", broken), *resume])
    assert resumed.returncode == 0, resumed.stderr
    assert same_bits(weights(whole), weights(broken))
    for name in ("results", "scores"):
        pd.testing.assert_frame_equal(table(whole, name), table(broken, name))


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
