"""Audits of one checkpoint in bfloat16: scores stay float32, and say what float32 weights say."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from kd_privacy.cli import main
from tests.integration.conftest import ROOT, fragments, table


def validate(teacher: Path, run_dir: Path, precision: str) -> pd.DataFrame:
    """Membership scores of the teacher's last checkpoint, one row a record and attack."""
    command = fragments("teacher", "audits/membership")
    main(
        [
            "validate",
            *command[1 : command.index("--model.optimizer.lr=2e-3")],
            *(f"--trainer.precision={precision}", "--trainer.accelerator=cpu"),
            f"--ckpt_path={teacher / 'checkpoints' / 'last.ckpt'}",
            f"--run_dir={run_dir}",
        ]
    )
    return table(run_dir, "scores")


@pytest.fixture(scope="module")
def exact(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return validate(teacher, tmp_path_factory.mktemp("exact") / "run", "32-true")


@pytest.mark.parametrize(
    "precision", ["bf16-true", pytest.param("bf16-mixed", marks=pytest.mark.slow)]
)
def test_scores_in_bfloat16(
    precision: str, exact: pd.DataFrame, teacher: Path, tmp_path: Path
) -> None:
    rounded = validate(teacher, tmp_path / "run", precision)
    keys = ["record", "population", "name", "params"]
    pd.testing.assert_frame_equal(rounded[keys], exact[keys])
    assert set(exact.name) == {"loss", "zlib", "min_k", "min_k_plus_plus"}
    for name, rows in exact.groupby("name"):
        scores = rounded.loc[rows.index, "score"].to_numpy()
        apart = np.abs(scores - rows.score.to_numpy())
        # Rounded products move a score, by far less than records differ from each other.
        assert 0 < apart.max() < 0.05 * rows.score.std(), name
        # A score that had been bfloat16 anywhere would still be: none is.
        assert not np.any(torch.from_numpy(scores).bfloat16().double().numpy() == scores), name
