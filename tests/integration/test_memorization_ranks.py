"""Memorization and exposure on two processes equal those on one, row by row."""

from pathlib import Path

import pandas as pd
import pytest

from studies.cli import main
from tests.integration.conftest import fragments, run_process, table

NAMES = ["base/teacher", "data/builtin", "families/gpt2-tiny"]
AUDITS = """\
trainer:
  callbacks+:
    - class_path: callbacks.MemorizationAudit
      init_args: {max_records: 40}
    - class_path: callbacks.memorization.released_callback.ReleasedMemorizationAudit
      init_args: {decoding: {no_repeat_ngram: 3}}
    - class_path: callbacks.ExposureAudit
      init_args: {max_candidates: 100, sample_candidates: 100}
"""
CANARIES = [
    *("-c", "configs/data/canaries.yaml", "--data.canaries.coin=0"),
    *("--data.canaries.exposure_per_level=3", "--data.canaries.repetitions=[1, 4]"),
]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_give_the_rows_of_one(strategy: str, teacher: Path, tmp_path: Path) -> None:
    audits = tmp_path / "audits.yaml"
    audits.write_text(AUDITS)
    arguments = [
        "validate",
        *[part for name in NAMES for part in ("-c", f"configs/{name}.yaml")],
        *fragments("teacher")[2 * len(NAMES) + 1 :],
        *CANARIES,
        *("-c", str(audits)),
        f"--ckpt_path={teacher / 'checkpoints' / 'last.ckpt'}",
    ]
    main([*arguments, f"--run_dir={tmp_path / 'one'}"])
    two = ["--trainer.devices=2", "-c", f"configs/trainers/{strategy}.yaml"]
    finished = run_process([*arguments, f"--run_dir={tmp_path / 'two'}", *two])
    assert finished.returncode == 0, finished.stderr
    for name in ("results", "memorization"):
        alone, together = (table(tmp_path / number, name) for number in ("one", "two"))
        assert len(alone) > 20
        pd.testing.assert_frame_equal(alone, together, atol=1e-4, rtol=1e-4)
    exposed = table(tmp_path / "two", "memorization")
    exposed = exposed[exposed.name == "exposure"]
    assert len(exposed) == exposed.record.nunique() == 6
    written = [
        pd.read_parquet(tmp_path / number / "private" / "continuations.parquet")
        for number in ("one", "two")
    ]
    pd.testing.assert_frame_equal(*written)
