"""Audits of one checkpoint on two processes equal those on one, row by row."""

from pathlib import Path

import pandas as pd
import pytest

from kd_privacy.cli import main
from tests.integration.conftest import ROOT, fragments, table
from tests.processes import run_command

NAMES = ["base/teacher", "data/builtin", "families/gpt2-tiny", "audits/membership"]
AUDITS = """\
trainer:
  callbacks+:
    - class_path: callbacks.MemorizationAudit
      init_args: {max_records: 40}
    - class_path: callbacks.released_memorization.ReleasedMemorizationAudit
      init_args: {decoding: {no_repeat_ngram: 3}, max_records: 40}
    - class_path: callbacks.ExposureAudit
      init_args: {max_candidates: 100, sample_candidates: 100}
"""
CANARIES = [
    *("-c", "configs/data/canaries.yaml", "--data.canaries.coin=0"),
    *("--data.canaries.exposure_per_level=3", "--data.canaries.repetitions=[1, 4]"),
]


def arguments(teacher: Path, run_dir: Path) -> list[str]:
    audits = run_dir.parent / "audits.yaml"
    audits.write_text(AUDITS, encoding="utf-8")
    return [
        "validate",
        *[part for name in NAMES for part in ("-c", f"configs/{name}.yaml")],
        *fragments("teacher")[2 * len(NAMES) - 1 :],
        *CANARIES,
        *("-c", str(audits)),
        f"--ckpt_path={teacher / 'checkpoints' / 'last.ckpt'}",
        f"--run_dir={run_dir}",
    ]


@pytest.fixture(scope="module")
def alone(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The teacher's checkpoint as one process audits it."""
    run_dir = tmp_path_factory.mktemp("alone") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        main(arguments(teacher, run_dir))
    return run_dir


# Audits on whole copies of the model: tests/integration/test_ranks.py.
@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_give_the_rows_of_one(
    strategy: str, alone: Path, teacher: Path, tmp_path: Path
) -> None:
    two = tmp_path / "two"
    several = ["--trainer.devices=2", "-c", f"configs/trainers/{strategy}.yaml"]
    finished = run_command([*arguments(teacher, two), *several], ranks=2)
    assert finished.returncode == 0, finished.stderr
    expected, found = (table(run, "results") for run in (alone, two))
    pd.testing.assert_frame_equal(expected, found, atol=1e-4, rtol=1e-4)
    # The toy teacher has learnt next to nothing, which is told.
    audits = {"membership", "memorization", "released", "known_text", "records"}
    assert set(expected.audit) == audits
    likelihoods = [rows[rows.audit == "membership"] for rows in (expected, found)]
    assert len(likelihoods[0]) > 20
    pd.testing.assert_frame_equal(*likelihoods, atol=1e-5, rtol=0)
    pd.testing.assert_frame_equal(table(alone, "scores"), table(two, "scores"), atol=1e-5, rtol=0)
    own = [table(run, "memorization") for run in (alone, two)]
    assert len(own[0]) > 20
    pd.testing.assert_frame_equal(*own, atol=1e-4, rtol=1e-4)
    exposed = own[1][own[1].name == "exposure"]
    assert len(exposed) == exposed.record.nunique() == 6
    written = [pd.read_parquet(run / "private" / "continuations.parquet") for run in (alone, two)]
    pd.testing.assert_frame_equal(*written)
