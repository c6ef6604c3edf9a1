"""Two processes give the numbers of one: the same losses, weights and rows."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from kd_privacy.cli import main
from tests.integration.conftest import (
    ROOT,
    fragments,
    losses,
    run_process,
    table,
    weights,
)
from tests.processes import run_command

TWO = ["--trainer.devices=2"]
STRATEGIES = {
    "ddp": ["-c", "configs/trainers/ddp.yaml"],
    "fsdp2": ["-c", "configs/trainers/fsdp2.yaml"],
}
# 11 does not divide by two ranks, nor do 160 records by 11: every epoch has uneven batches.
UNEVEN = "--data.batch_size=11"


def student(teacher: Path, run_dir: Path) -> list[str]:
    return [
        *fragments("student", "techniques/kd", "audits/membership", "audits/utility"),
        f"--model.teacher={teacher / 'export'}",
        UNEVEN,
        "--trainer.accumulate_grad_batches=2",
        "--trainer.callbacks.init_args.max_new_tokens=24",
        # What a user adds who stops by the development loss: every rank has to know it.
        "--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStopping",
        "--trainer.callbacks.monitor=val/loss",
        "--trainer.callbacks.patience=100",
        f"--run_dir={run_dir}",
    ]


@pytest.fixture(scope="module")
def alone(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student trained and audited by one process."""
    run_dir = tmp_path_factory.mktemp("alone") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        main(student(teacher, run_dir))
    return run_dir


@pytest.mark.parametrize(
    "strategy", ["ddp", pytest.param("fsdp2", marks=pytest.mark.slow)], ids=str
)
def test_training_and_audits_equal_one_process(
    strategy: str, alone: Path, teacher: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    command = [*student(teacher, run_dir), *TWO, *STRATEGIES[strategy]]
    # Lightning launches either strategy alike; the slow one shows that a command line does.
    finished = run_process(command) if strategy == "fsdp2" else run_command(command, ranks=2)
    assert finished.returncode == 0, finished.stderr
    assert "sync_dist" not in finished.stderr
    assert losses(run_dir) == pytest.approx(losses(alone), abs=1e-5)
    assert losses(run_dir, "val/loss") == pytest.approx(losses(alone, "val/loss"), abs=1e-5)
    for name, value in weights(alone).items():
        torch.testing.assert_close(weights(run_dir)[name], value, atol=2e-4, rtol=1e-3)
    one, two = table(alone, "results"), table(run_dir, "results")
    identity = ["step", "audit", "population", "task", "name", "params", "metric"]
    counts = ["n_members", "n_nonmembers", "skipped"]
    pd.testing.assert_frame_equal(one[identity + counts], two[identity + counts])
