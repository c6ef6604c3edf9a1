"""A storm of SIGKILLs at random moments changes no weight and no row, whatever the technique."""

import shutil
import signal
import time
from multiprocessing.connection import wait
from pathlib import Path
from random import Random

import pandas as pd
import pytest

from tests.integration.conftest import AUDITS, fragments, same_bits, table, weights
from tests.integration.test_families import TECHNIQUES, TEXT
from tests.processes import run_command, start_command

KILLS = 4
"""Of each technique: with six of them, 24 in all."""


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
