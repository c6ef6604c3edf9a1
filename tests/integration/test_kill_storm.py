"""A storm of SIGKILLs at random moments changes no weight and no row, whatever the technique."""

import shutil
import signal
import subprocess
import sys
import time
from multiprocessing.connection import wait
from pathlib import Path
from random import Random

import pandas as pd
import pytest

from tests.integration.conftest import AUDITS, fragments, same_bits, table, weights
from tests.integration.test_families import TECHNIQUES, TEXT
from tests.processes import ROOT, run_command, start_command

KILLS = 4
"""Of each technique: with six of them, 24 in all."""
STUDY = """\
name: storm
data: {fragment: builtin, overrides: {data.n_records: 160, data.vocabulary: 512}}
families: [gpt2-tiny]
techniques: [kd]
controls: [control, counterfactual]
replicates: [1]
audits: [membership]
overrides: {trainer.max_epochs: 2, recovery.save_every_n_steps: 2, data.batch_size: 8}
"""


@pytest.mark.slow
@pytest.mark.parametrize("technique", TECHNIQUES)
def test_a_storm_changes_nothing(technique: str, teacher: Path, tmp_path: Path) -> None:
    command = [
        *fragments("student", f"techniques/{technique}"),
        *(*AUDITS, *TECHNIQUES[technique], *TEXT, "--recovery.save_every_n_steps=2"),
        f"--model.teacher={teacher / 'export'}",
    ]
    whole, stormed = (tmp_path / name for name in ("whole", "stormed"))
    began = time.monotonic()
    finished = run_command([*command, f"--run_dir={whole}"])
    assert finished.returncode == 0, finished.stderr
    seconds = time.monotonic() - began
    random, kills = Random(technique), 0
    while kills < KILLS:
        process = start_command(_going_on(command, stormed), {}, tmp_path / "said.txt")
        if wait([process.sentinel], random.uniform(0.1, 0.9) * seconds):
            # It was quicker than the first run, which had the server to start.
            process.join()
            assert process.exitcode == 0, (tmp_path / "said.txt").read_text()
            shutil.rmtree(stormed)
            seconds, kills = seconds / 2, 0
            continue
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        kills += 1
    ended = run_command(_going_on(command, stormed))
    assert ended.returncode == 0, ended.stderr
    assert same_bits(weights(whole), weights(stormed))
    for name in ("results", "scores"):
        pd.testing.assert_frame_equal(table(whole, name), table(stormed, name))


def _going_on(command: list[str], run_dir: Path) -> list[str]:
    saved = (run_dir / "checkpoints" / "last.ckpt").exists()
    return [*command, f"--run_dir={run_dir}", *(["--ckpt_path=last"] if saved else [])]


@pytest.mark.slow
def test_a_storm_over_a_study_changes_nothing(tmp_path: Path) -> None:
    study, whole, stormed = tmp_path / "storm.yaml", tmp_path / "whole", tmp_path / "stormed"
    study.write_text(STUDY)
    began = time.monotonic()
    assert _start(study, whole).wait() == 0
    seconds, random = time.monotonic() - began, Random(0)
    for _ in range(KILLS):
        runner = _start(study, stormed)
        time.sleep(random.uniform(0.2, 0.9) * seconds)
        runner.kill()
        runner.wait()
    assert _start(study, stormed).wait() == 0
    checkpoints = sorted(whole.glob("cells/*/checkpoints/last.ckpt"))
    assert len(checkpoints) >= 5
    for path in checkpoints:
        run_dir = path.parents[1]
        assert same_bits(weights(run_dir), weights(stormed / run_dir.relative_to(whole)))
    for name in ("results", "scores", "memorization", "comparisons"):
        found, expected = (pd.read_parquet(out / f"{name}.parquet") for out in (stormed, whole))
        pd.testing.assert_frame_equal(found, expected)


def _start(study: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "kd_privacy.study_cli", "run", str(study)]
    return subprocess.Popen([*command, "--run_dir", str(out)], cwd=ROOT, stdout=subprocess.DEVNULL)
