"""A run that is told to end does so with the signal's status, on every rank, and says what next."""

from pathlib import Path

import pytest

from tests.integration.conftest import fragments, run_process, same_bits, weights
from tests.processes import run_command

DIES = 9
GOES_ON = "the same command with --ckpt_path last goes on from the last save"


def told_to_end(run_dir: Path, sends: str, rank: int = 0) -> list[str]:
    """A fit of two epochs of six steps that is told to end in the second."""
    options = [f"before={DIES}", f"rank={rank}", f"sends={sends}"]
    return [
        *fragments("teacher"),
        f"--run_dir={run_dir}",
        "--trainer.callbacks+=tests.integration.killer.Killer",
        *[f"--trainer.callbacks.{option}" for option in options],
    ]


@pytest.mark.parametrize(
    ("sends", "status", "said"),
    [("SIGTERM", 143, f"terminated: {GOES_ON}"), ("SIGINT", 130, f"interrupted: {GOES_ON}")],
)
def test_its_status_is_the_signals_and_it_goes_on(
    sends: str, status: int, said: str, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    ended = run_command(told_to_end(run_dir, sends))
    assert ended.returncode == status, ended.stderr
    assert said in ended.stderr.splitlines()
    assert "Traceback" not in ended.stderr
    command = [*fragments("teacher"), f"--run_dir={run_dir}"]
    assert run_command([*command, "--ckpt_path=last"]).returncode == 0
    whole = tmp_path / "whole"
    assert run_command([*fragments("teacher"), f"--run_dir={whole}"]).returncode == 0
    assert same_bits(weights(run_dir), weights(whole))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_every_rank_ends_whichever_is_told(rank: int, tmp_path: Path) -> None:
    command = told_to_end(tmp_path / "run", "SIGTERM", rank)
    # All ranks hold the pipe that is read to its end: one that waits on is a timeout.
    two = ["--trainer.devices=2", "-c", "configs/trainers/ddp.yaml"]
    ended = run_process([*command, *two], timeout_s=240)
    assert ended.returncode != 0
    assert f"terminated: {GOES_ON}" in ended.stderr
