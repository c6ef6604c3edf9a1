"""Planted canaries as whole commands: a teacher gives them away by repetitions, a control not."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from callbacks.memorization.exposure import CHANCE_BITS
from datamodules.canaries import read_manifest
from datamodules.errors import UserError
from studies.cli import main
from tests.integration.conftest import fragments, table

CANARIES = [
    *("-c", "configs/data/canaries.yaml", "-c", "configs/audits/exposure.yaml"),
    *("--data.n_records=90", "--data.canaries.coin=0", "--data.canaries.exposure_per_level=6"),
    *("--data.canaries.repetitions=[1, 4, 16]", "--data.canaries.formats=[code, phone]"),
    "--trainer.callbacks.init_args.max_candidates=1000",
    "--trainer.callbacks.init_args.sample_candidates=200",
]


def audited(base: str, run_dir: Path, *more: str) -> pd.DataFrame:
    """Rows of a toy run's exposure audit with their parameters as columns."""
    main([*fragments(base), *CANARIES, *more, f"--run_dir={run_dir}"])
    rows = table(run_dir, "results")
    rows = rows[(rows.name == "exposure") & (rows.audit == "memorization")].reset_index(drop=True)
    return rows.join(pd.DataFrame(rows.params.map(json.loads).tolist()))


def test_a_teacher_gives_canaries_away_and_a_control_does_not(tmp_path: Path) -> None:
    training = ("--trainer.max_epochs=5", "--model.optimizer.lr=4e-3")
    teacher = audited("teacher", tmp_path / "teacher", *training)
    whole = teacher[(teacher.format == "all") & (teacher.metric == "exposure")]
    by_level = whole.set_index("repetitions")["value"].sort_index()
    assert by_level[1] < by_level[4] < by_level[16]
    ceiling = np.mean([np.log2(24_000), np.log2(10**6)])
    assert by_level[16] > 0.8 * ceiling
    assert set(teacher.method) == {"skew_normal"}

    control = audited("control", tmp_path / "control", "--trainer.max_epochs=1")
    whole = control[(control.format == "all") & (control.metric == "exposure")]
    assert (whole.n_members == 6).all()
    assert (whole.lower <= CHANCE_BITS).all()
    assert (whole.upper >= CHANCE_BITS).all()
    assert (whole.p_value > 0.01).all()

    canaries = {one.id: one for one in read_manifest(tmp_path / "teacher/private/canaries.jsonl")}
    rows = table(tmp_path / "teacher", "memorization")
    rows = rows[rows.name == "exposure"]
    assert set(rows.record) == set(canaries)
    mean = rows.groupby(rows.record.map(lambda name: canaries[name].repetitions))["value"].mean()
    assert mean.to_dict() == pytest.approx(by_level.to_dict())
    written = [path.read_bytes() for path in (tmp_path / "teacher").glob("*.parquet")]
    for canary in canaries.values():
        assert not any(canary.secret.encode() in content for content in written)


def test_an_audit_without_canaries_says_how_to_plant_them(tmp_path: Path) -> None:
    listed = [*fragments("control"), "-c", "configs/audits/exposure.yaml"]
    with pytest.raises((UserError, SystemExit)):
        main([*listed, "--trainer.max_epochs=1", f"--run_dir={tmp_path / 'run'}"])
