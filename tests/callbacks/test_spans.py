"""The audit of a run says what it will do, writes its rows and its worst spans, and no text."""

from pathlib import Path

import pandas as pd
import pytest

from callbacks import SpanAudit
from common.errors import UserError
from kd_privacy.cli import main
from tests.callbacks.test_memorization import check_no_text
from tests.integration.conftest import _in_repository, fragments

__all__ = ["_in_repository"]


def test_a_run_says_its_cost_and_keeps_its_worst_spans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    told: list[str] = []
    monkeypatch.setattr("callbacks.spans.rank_zero_info", told.append)
    main(
        [
            *fragments("teacher", "audits/spans"),
            *("--trainer.max_epochs=1", "--trainer.callbacks.init_args.sampled_records=3"),
            *("--trainer.callbacks.init_args.samples=2", "--data.n_records=300"),
            # Every token is drawn, so that every probability is above 0.
            "--trainer.callbacks.init_args.top_k=0",
            f"--run_dir={run_dir}",
        ]
    )
    (cost,) = told
    assert "4 passes over" in cost
    # Three records of three populations, and ten generic prompts, twice each.
    assert "38 answers of up to 64 tokens are sampled" in cost
    results = pd.read_parquet(run_dir / "results.parquet")
    results = results[results.audit == "spans"]
    assert {"private", "held_out", "never"} <= set(results.population)
    gaps = results[results.metric == "span_probability_gap"]
    assert {other for other in ("held_out", "never") if gaps.params.str.contains(other).any()} == {
        "held_out",
        "never",
    }
    worst = pd.read_csv(run_dir / "private" / "worst_spans.csv")
    assert len(worst) == 10
    assert worst.log_probability.is_monotonic_decreasing
    check_no_text(run_dir, "".join(capsys.readouterr()))


def test_options_are_checked() -> None:
    with pytest.raises(UserError, match="samples is 0"):
        SpanAudit(samples=0)
    with pytest.raises(UserError, match="top_p is 2"):
        SpanAudit(top_p=2)
