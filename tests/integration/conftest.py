"""Whole commands at toy size: arguments that many tests share, in-process and as processes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from callbacks.tensorboard import ordered
from kd_privacy.cli import main
from tests.processes import ROOT

SMALL_NETWORK = (
    "--model.network.config={n_layer: 2, n_head: 2, n_embd: 32, n_positions: 512, "
    "resid_pdrop: 0.0, embd_pdrop: 0.0, attn_pdrop: 0.0}"
)
SMALL_DATA = ["--data.n_records=160", "--data.vocabulary=512", "--data.batch_size=8"]
TRAINING = [
    "--model.optimizer.lr=2e-3",
    "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.log_every_n_steps=1",
]
AUDITS = ["-c", "configs/audits/membership.yaml"]


def fragments(base: str, *more: str) -> list[str]:
    """Arguments of a toy fit: base fragment, data, family, and what else is named."""
    names = [f"base/{base}", "data/builtin", "families/gpt2-tiny", *more]
    listed = [part for name in names for part in ("-c", f"configs/{name}.yaml")]
    return ["fit", *listed, SMALL_NETWORK, *SMALL_DATA, *TRAINING]


@pytest.fixture(autouse=True)
def _in_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["kd-privacy"])


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished toy teacher run with a membership audit."""
    run_dir = tmp_path_factory.mktemp("teacher") / "run"
    here = Path.cwd()
    os.chdir(ROOT)
    try:
        main([*fragments("teacher", "audits/membership"), f"--run_dir={run_dir}"])
    finally:
        os.chdir(here)
    return run_dir


def run_process(arguments: list[str], timeout_s: int = 600) -> subprocess.CompletedProcess[str]:
    """Runs `kd-privacy` as its user does, one thread per process; `run_command` costs less."""
    return subprocess.run(
        [sys.executable, "-m", "kd_privacy.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], str]:
    """Runs a command that must exit with status 2, and returns its one line of error."""

    def run(arguments: list[str]) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert len(lines) == 1
        return lines[0]

    return run


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    """The weights of a run's last checkpoint."""
    checkpoint = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)
    return checkpoint["state_dict"]


def same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of weights are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def table(run_dir: Path, name: str) -> pd.DataFrame:
    """A run's merged table, without the name of the run."""
    return pd.read_parquet(run_dir / f"{name}.parquet").drop(columns="run")


def losses(run_dir: Path, tag: str = "train/loss") -> list[float]:
    """The values of a TensorBoard curve in the order of steps, by its tag without its group."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_dir))
    events.Reload()
    return [point.value for point in events.Scalars(ordered(tag))]
