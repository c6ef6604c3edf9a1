"""Planted canaries as whole commands: a teacher gives them away by repetitions, a control not."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from audits.memorization.exposure import CHANCE_BITS, Exposure, MeanExposure, mean_exposure
from common.errors import UserError
from kd_privacy.cli import main
from tests.integration.conftest import ROOT, fragments, table

LEVELS = (1, 2, 4, 8, 16)
PER_LEVEL = 6
CANARIES = [
    *("-c", "configs/data/canaries.yaml", "-c", "configs/audits/exposure.yaml"),
    *("--data.n_records=90", "--data.canaries.coin=0"),
    f"--data.canaries.exposure_per_level={PER_LEVEL}",
    f"--data.canaries.repetitions={list(LEVELS)}",
    "--data.canaries.formats=[code, phone]",
    "--trainer.callbacks.init_args.max_candidates=1000",
    "--trainer.callbacks.init_args.sample_candidates=200",
]
CEILING = float(np.mean([np.log2(24_000), np.log2(10**6)]))


def audited(base: str, run_dir: Path, *more: str) -> Path:
    """The folder of a toy run with an exposure audit."""
    main([*fragments(base), *CANARIES, *more, f"--run_dir={run_dir}"])
    return run_dir


def means(run_dir: Path) -> pd.DataFrame:
    """Rows of mean exposure over all formats, by repetitions."""
    rows = table(run_dir, "results")
    rows = rows[(rows.metric == "exposure") & (rows.audit == "memorization")].reset_index(drop=True)
    rows = rows.join(pd.DataFrame(rows.params.map(json.loads).tolist()))
    assert set(rows.method) == {"skew_normal_approximation"}
    return rows[rows.format == "all"].set_index("repetitions").sort_index()


def over_all(run_dir: Path) -> MeanExposure:
    """Mean exposure of all canaries; the table holds no p-values."""
    rows = table(run_dir, "memorization")
    rows = rows[rows.name == "exposure"]
    assert len(rows) == PER_LEVEL * len(LEVELS)
    spaces = [24_000 if '"code"' in params else 10**6 for params in rows.params]
    canaries = [Exposure(bits, "skew_normal_approximation", p_value=1.0) for bits in rows.value]
    return mean_exposure(canaries, spaces)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher over-trained on its private records and the canaries among them."""
    run_dir = tmp_path_factory.mktemp("exposure") / "teacher"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(sys, "argv", ["kd-privacy"])
        return audited("teacher", run_dir, "--trainer.max_epochs=10", "--model.optimizer.lr=4e-3")


def test_exposure_grows_with_repetitions_to_its_maximum(teacher: Path) -> None:
    rows = means(teacher)
    assert rows.index.tolist() == list(LEVELS)
    assert (rows.n_members == PER_LEVEL).all()
    values = rows["value"].to_numpy()
    assert values[0] < values[2] < values[3] < values[4]
    assert values[4] > 0.95 * CEILING
    assert values[4] - values[0] > 8.0
    own = table(teacher, "memorization")
    own = own[own.name == "exposure"]
    repetitions = [json.loads(params)["repetitions"] for params in own.params]
    assert stats.spearmanr(repetitions, own.value).pvalue < 1e-4
    assert rows["upper"].max() <= np.log2(10**6) + 1e-9
    assert (rows["p_value"] < 1e-6).sum() >= 3


def test_every_canary_has_a_row_without_its_secret(teacher: Path) -> None:
    lines = (teacher / "private/canaries.jsonl").read_text().splitlines()
    repetitions = {row["id"]: row["repetitions"] for row in map(json.loads, lines)}
    rows = table(teacher, "memorization")
    rows = rows[rows.name == "exposure"]
    assert set(rows.record) == set(repetitions)
    own = rows.groupby(rows.record.map(repetitions))["value"].mean()
    assert own.to_dict() == pytest.approx(means(teacher)["value"].to_dict())


@pytest.mark.slow
def test_a_control_shows_chance(teacher: Path, tmp_path: Path) -> None:
    control = audited("control", tmp_path / "control", "--trainer.max_epochs=3")
    rows = means(control)
    assert (rows["lower"] <= CHANCE_BITS).all()
    assert (rows["upper"] >= CHANCE_BITS).all()
    assert (rows["p_value"] > 0.01).all()
    whole = over_all(control)
    assert whole.lower is not None
    assert whole.upper is not None
    assert whole.lower < CHANCE_BITS < whole.upper < over_all(teacher).lower


@pytest.mark.slow
def test_a_student_of_text_without_secrets_is_reported(teacher: Path, tmp_path: Path) -> None:
    """Its text is public and holds none of them; what it shows is stated, whatever it is."""
    student = audited(
        "student",
        tmp_path / "student",
        *("-c", "configs/techniques/kd.yaml", f"--model.teacher={teacher / 'export'}"),
        "--trainer.max_epochs=10",
        "--model.optimizer.lr=4e-3",
    )
    rows = means(student)
    assert rows.index.tolist() == list(LEVELS)
    assert (rows["lower"] < rows["value"]).all()
    assert (rows["value"] < rows["upper"]).all()
    assert rows["p_value"].between(0, 1).all()
    assert over_all(student).value < over_all(teacher).value


def test_an_audit_without_canaries_says_how_to_plant_them(tmp_path: Path) -> None:
    listed = [*fragments("control"), "-c", "configs/audits/exposure.yaml"]
    with pytest.raises((UserError, SystemExit)):
        main([*listed, "--trainer.max_epochs=1", f"--run_dir={tmp_path / 'run'}"])
