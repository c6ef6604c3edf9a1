"""A control that never met a teacher tells private from held-out records no better than a coin."""

from pathlib import Path

import numpy as np
import pytest

from kd_privacy.cli import main
from tests.integration.conftest import fragments, table

REPLICATES = 20


@pytest.mark.slow
def test_the_control_is_clean_over_splits_and_seeds(tmp_path: Path) -> None:
    values, covered = [], []
    for replicate in range(REPLICATES):
        run_dir = tmp_path / str(replicate)
        main(
            [
                *fragments("control", "audits/membership"),
                f"--seed_everything={replicate}",
                f"--data.splits.seed={replicate}",
                "--data.n_records=400",
                f"--run_dir={run_dir}",
            ]
        )
        rows = table(run_dir, "results")
        last = rows[rows.task.isna() & (rows.metric == "auroc") & (rows.step == rows.step.max())]
        values.append(last.value.to_numpy())
        covered.append(((last.lower <= 0.5) & (last.upper >= 0.5)).to_numpy())
    means = np.mean(values, axis=0)
    errors = np.std(values, axis=0, ddof=1) / REPLICATES**0.5
    # Four attacks at 99.9% each; 15 of 20 is the binomial 0.03% point of 95% intervals.
    assert np.all(np.abs(means - 0.5) < 3.9 * errors)
    assert np.all(np.sum(covered, axis=0) >= 15)
