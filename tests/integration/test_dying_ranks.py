"""A rank that dies ends the run with its error; any strategy goes on from what was finished."""

import re
from pathlib import Path

import pandas as pd
import pytest
import torch

from kd_privacy.cli import main
from tests.integration.conftest import AUDITS, ROOT, fragments, losses, run_process, table, weights
from tests.processes import run_command

# An epoch has 6 steps and a validation: the rank dies in the second epoch, after a checkpoint.
DIES = 9
WITHIN_SECONDS = 240


def arguments(run_dir: Path) -> list[str]:
    saved = "--recovery.save_every_n_steps=2"
    return [*fragments("teacher"), *AUDITS, saved, f"--run_dir={run_dir}"]


def on_two(strategy: str) -> list[str]:
    return ["--trainer.devices=2", "-c", f"configs/trainers/{strategy}.yaml"]


def dying(rank: int, *more: str) -> list[str]:
    options = [f"before={DIES}", f"rank={rank}", *more]
    return [
        "--trainer.callbacks+=tests.integration.killer.Killer",
        *[f"--trainer.callbacks.{option}" for option in options],
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process that nothing disturbs."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        main(arguments(run_dir))
    return run_dir


def assert_what_was_finished_is_intact(run_dir: Path, whole: Path) -> None:
    saved = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 8
    [rows] = (run_dir / "parts" / "results").iterdir()
    found, expected = pd.read_parquet(rows), pd.read_parquet(whole / "results.parquet")
    assert set(found["step"]) == {expected["step"].min()} != {expected["step"].max()}
    identity = ["step", "audit", "population", "task", "name", "params", "metric"]
    both = found.merge(expected, on=identity, suffixes=("", "_whole"))
    assert len(both) == len(found) == len(expected[expected["step"] == found["step"].iloc[0]])
    assert both["value"].to_numpy() == pytest.approx(
        both["value_whole"].to_numpy(), abs=1e-5, nan_ok=True
    )


def assert_same_run(run_dir: Path, whole: Path) -> None:
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(run_dir)[name], value, atol=2e-4, rtol=1e-3)
    one, two = table(whole, "scores"), table(run_dir, "scores")
    identity = [name for name in one if name != "score"]
    pd.testing.assert_frame_equal(one[identity], two[identity])
    assert two["score"].to_numpy() == pytest.approx(one["score"].to_numpy(), abs=1e-3)
    assert losses(run_dir, "val/loss")[-1] == pytest.approx(losses(whole, "val/loss")[-1], abs=1e-5)


@pytest.mark.parametrize(
    ("death", "said"),
    [
        pytest.param(
            dying(0, "error=the disk is full"),
            "RuntimeError: the disk is full",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            dying(1),
            # Whichever notices first, gloo or Lightning's launcher.
            "Connection (closed|reset) by peer|terminated with code -9",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["error on the first rank", "kill of the second"],
)
def test_the_run_ends_with_the_error_of_the_rank(
    death: list[str], said: str, whole: Path, tmp_path: Path
) -> None:
    command = [*arguments(tmp_path / "run"), *on_two("ddp"), *death]
    # All ranks hold the pipe that is read to its end: one that waits on is a timeout.
    ended = run_process(command, timeout_s=WITHIN_SECONDS)
    assert ended.returncode != 0
    assert re.search(said, ended.stderr), ended.stderr
    assert_what_was_finished_is_intact(tmp_path / "run", whole)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("fsdp2", "ddp", marks=pytest.mark.slow),
        pytest.param("ddp", "", marks=pytest.mark.slow),
        pytest.param("", "fsdp2", marks=pytest.mark.slow),
    ],
)
def test_each_strategy_goes_on_from_a_checkpoint_of_another(
    first: str, second: str, whole: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"

    def run(strategy: str, *more: str) -> int:
        command = [*arguments(run_dir), *(on_two(strategy) if strategy else []), *more]
        return run_command(command, ranks=2 if strategy else 1).returncode

    assert run(first, *dying(1 if first else 0)) == -9
    assert run(second, "--ckpt_path=last") == 0
    assert_same_run(run_dir, whole)
