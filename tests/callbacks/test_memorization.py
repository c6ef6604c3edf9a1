"""The audit of a run writes its tables and curves, and no private text anywhere."""

import logging
from pathlib import Path

import pandas as pd
import pytest

from audits.memorization.metrics import ExactMatch, TokenAccuracy
from callbacks import MemorizationAudit
from common.errors import UserError
from datamodules.synthetic import generate_records
from kd_privacy.cli import main
from tests.integration.conftest import _in_repository, fragments

__all__ = ["_in_repository"]


@pytest.fixture(scope="module")
def names() -> list[str]:
    return ["private", "held_out", "never"]


def test_a_run_has_rows_curves_and_no_text(
    names: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_dir = tmp_path / "run"
    with caplog.at_level(logging.INFO):
        main(
            [
                *fragments("teacher", "audits/memorization"),
                *("--trainer.max_epochs=1", "--trainer.callbacks.init_args.max_records=30"),
                f"--run_dir={run_dir}",
            ]
        )
    results, records = (
        pd.read_parquet(run_dir / f"{name}.parquet") for name in ("results", "memorization")
    )
    results = results[results.audit == "memorization"]
    assert set(records.population) == set(names)
    whole = results[results.task.isna() & (results.metric == "token_accuracy")]
    whole = whole[~whole.params.str.contains("length")]
    assert sorted(whole.population) == sorted(names)
    for row in whole.itertuples():
        own = records[(records.name == "token_accuracy") & (records.population == row.population)]
        assert row.value == pytest.approx(own.value.mean())
        count = row.n_members if row.population == "private" else row.n_nonmembers
        assert count == len(own)
    coins = results[results.metric == "dealt_by_coins"]
    assert coins[["population", "value"]].to_numpy().tolist() == [["private", 1.0]]
    gaps = results[results.task.isna() & (results.metric == "token_accuracy_gap")]
    assert {name for name in names[1:] if gaps.params.str.contains(name).any()} == set(names[1:])
    events = EventAccumulator(str(run_dir))
    events.Reload()
    assert any(tag.startswith("2_memorization/private") for tag in events.Tags()["scalars"])
    assert any(tag.startswith("2_memorization/n_p_extraction") for tag in events.Tags()["images"])
    check_no_text(run_dir, caplog.text)


def check_no_text(run_dir: Path, log: str) -> None:
    records = generate_records(160, seed=0)
    responses = [record.response for record in records if len(record.response) > 20]
    assert len(responses) > 50
    files = [*run_dir.rglob("*.parquet"), *run_dir.rglob("events*"), *run_dir.rglob("*.yaml")]
    assert len(files) > 3
    contents = [path.read_bytes() for path in files] + [log.encode()]
    tables = [pd.read_parquet(path).to_csv() for path in files if path.suffix == ".parquet"]
    for response in responses:
        assert not any(response[:20].encode() in content for content in contents)
        assert not any(response[:20] in table for table in tables)


def test_metrics_are_named_once() -> None:
    with pytest.raises(UserError, match="each once"):
        MemorizationAudit(metrics=[TokenAccuracy(), TokenAccuracy()])
    with pytest.raises(UserError, match="at least one"):
        MemorizationAudit(metrics=[])
    assert len(MemorizationAudit(metrics=[ExactMatch(0), ExactMatch(10)]).metrics) == 2
