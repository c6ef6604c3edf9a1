"""Techniques as whole commands at toy size: variants train and are audited, all of them resume.

The six techniques themselves train in `test_families.py`.
"""

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

SAMPLING = ["--model.responses.sampling.max_new_tokens=6"]
MINILLM = [
    "--model.responses.mixture.max_new_tokens=6",
    "--model.responses.rollouts=16",
    "--model.responses.inner_epochs=2",
]
TECHNIQUES = {
    "kd": [],
    "seqkd": SAMPLING,
    "seqkd_soft": SAMPLING,
    "seqkd_beam": SAMPLING,
    "imitkd": SAMPLING,
    "imitkd_paper": SAMPLING,
    "gkd": SAMPLING,
    "minillm": MINILLM,
    "distillm": SAMPLING,
    "distillm_sfkl": SAMPLING,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of plain text."""
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    lines = [
        f"The {i}th ship left port {i * 7 % 13} with {i * i} barrels of oil." for i in range(400)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def arguments(technique: str, teacher: Path, corpus: Path, run_dir: Path) -> list[str]:
    return [
        *fragments("student", f"techniques/{technique}", "audits/membership"),
        *TECHNIQUES[technique],
        f"--model.teacher={teacher / 'export'}",
        f"--model.plain_text.sources={corpus}",
        "--model.plain_text.block_tokens=64",
        "--trainer.max_steps=8",
        f"--run_dir={run_dir}",
    ]


# tests/kdmodules/test_step_modes.py takes a step of every technique.
@pytest.mark.slow
@pytest.mark.parametrize("technique", ["seqkd_beam", "imitkd_paper", "seqkd_soft", "distillm_sfkl"])
def test_a_technique_trains_and_is_audited(
    technique: str, teacher: Path, corpus: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / technique
    main(arguments(technique, teacher, corpus, run_dir))
    curve = losses(run_dir)
    assert len(curve) == 8
    assert all(math.isfinite(loss) for loss in curve)
    rows = table(run_dir, "results")
    assert (rows.technique == technique).all()
    assert rows.step.max() == 8
    assert losses(run_dir, "val/teacher_kl")


@pytest.mark.slow
@pytest.mark.parametrize("technique", ["seqkd", "imitkd", "gkd", "minillm", "distillm"])
def test_a_killed_technique_resumes_bit_for_bit(
    technique: str, teacher: Path, corpus: Path, tmp_path: Path
) -> None:
    every = "--recovery.save_every_n_steps=1"
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finished = run_command([*arguments(technique, teacher, corpus, whole), every])
    assert finished.returncode == 0, finished.stderr
    killed = run_command([*arguments(technique, teacher, corpus, broken), every, *killer(5)])
    assert killed.returncode == -9, killed.stderr
    resumed = run_command(
        [*arguments(technique, teacher, corpus, broken), every, "--ckpt_path=last"]
    )
    assert resumed.returncode == 0, resumed.stderr
    assert same_bits(weights(whole), weights(broken))
