"""Presets of the released code as whole commands: the run does what they say."""

import math
from pathlib import Path

import pytest

from kd_privacy.cli import main
from tests.integration.conftest import (
    fragments,
    losses,
    same_bits,
    table,
    weights,
)
from tests.integration.test_resume import killer
from tests.processes import run_command

SLOW = pytest.mark.slow
SAMPLING = ["--model.responses.sampling.max_new_tokens=6"]
OPTIONS = {
    "imitkd": SAMPLING,
    "gkd": SAMPLING,
    "minillm": [
        "--model.responses.mixture.max_new_tokens=6",
        "--model.responses.rollouts=16",
        "--model.responses.inner_epochs=2",
    ],
}


def arguments(technique: str, teacher: Path, run_dir: Path) -> list[str]:
    text = run_dir.parent / "corpus.txt"
    text.write_text("\n".join(f"Ship {i} left port {i * 7 % 13}." for i in range(400)), "utf-8")
    preset = f"presets/as_released/{technique}"
    return [
        *fragments("student", f"techniques/{technique}", preset, "audits/membership"),
        *OPTIONS[technique],
        f"--model.teacher={teacher / 'export'}",
        f"--model.plain_text.sources={text}",
        "--model.plain_text.block_tokens=64",
        "--trainer.max_steps=8",
        f"--run_dir={run_dir}",
    ]


# The buffer of imitkd and gkd without a command: tests/kdmodules/responses/test_buffered.py.
@pytest.mark.parametrize(
    "technique", ["minillm", *(pytest.param(name, marks=SLOW) for name in ("imitkd", "gkd"))]
)
def test_a_preset_trains_and_is_audited(technique: str, teacher: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / technique
    main(arguments(technique, teacher, run_dir))
    curve = losses(run_dir)
    assert len(curve) == 8
    assert all(math.isfinite(loss) for loss in curve)
    assert (table(run_dir, "results").technique == f"{technique}_as_released").all()
    if technique == "minillm":
        assert all(divergence > 0 for divergence in losses(run_dir, "train/text_kd"))
        return
    buffered = losses(run_dir, "responses/buffered")
    pushes = [after - before for before, after in zip([0.0, *buffered], buffered, strict=False)]
    assert set(pushes) == ({8.0} if technique == "imitkd" else {0.0, 8.0})


@pytest.mark.slow
def test_a_killed_run_keeps_its_buffer(teacher: Path, tmp_path: Path) -> None:
    every = "--recovery.save_every_n_steps=1"
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finished = run_command([*arguments("imitkd", teacher, whole), every])
    assert finished.returncode == 0, finished.stderr
    killed = run_command([*arguments("imitkd", teacher, broken), every, *killer(5)])
    assert killed.returncode == -9, killed.stderr
    resumed = run_command([*arguments("imitkd", teacher, broken), every, "--ckpt_path=last"])
    assert resumed.returncode == 0, resumed.stderr
    assert same_bits(weights(whole), weights(broken))
