"""The audit of a run: its rows, scores, scalars, pictures, and its history over a resume."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from audits.blocks.figures import earlier_rows, evolution_of
from audits.blocks.signals import LogitLens, ResidualNorm
from audits.statistics import auroc
from callbacks import BlockAudit
from common.errors import UserError
from kd_privacy.cli import main
from tests.audits.blocks.signals.test_tuned_lens import spied
from tests.integration.conftest import _in_repository, fragments, teacher

__all__ = ["_in_repository", "teacher"]

QUICK = "--trainer.callbacks.init_args.blind.repeats=1"


def test_a_fit_writes_every_figure_of_every_block(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_dir = tmp_path / "run"
    main([*fragments("teacher", "audits/blocks"), QUICK, f"--run_dir={run_dir}"])
    results, scores = (
        pd.read_parquet(run_dir / f"{name}.parquet") for name in ("results", "scores")
    )
    results = results[results.audit == "blocks"]
    texts = results.name.isin(("blind", "balance"))
    (verdict,) = set(results.shifted[texts])
    assert (results.shifted == verdict).all() or (verdict is None and results.shifted.isna().all())
    results = results[~texts]
    assert results.step.nunique() == 2
    results["measure"] = results.params.map(lambda text: json.loads(text)["measure"])
    areas = results[results.metric == "auroc"]
    for (_, name, measure), own in areas.groupby(["step", "name", "measure"]):
        assert sorted(own.block) == ([1] if measure == "gain" else [0, 1])
        assert (own.lower <= own.value).all()
        assert (own.value <= own.upper).all()
        assert own.p_value.between(0, 1).all(), name
    assert set(areas.measure) == {"log_likelihood", "gain", "norm", "cosine"}
    assert {json.loads(text)["n_blocks"] for text in results.params} == {2}
    over = results[results.block.isna()]
    assert set(over.metric) == {"max_minus_min", "max_minus_min_corrected", "equal_blocks_wald"}
    row = areas[(areas.step == 2 * min(areas.step)) & (areas.measure == "norm")].iloc[0]
    mine = scores[(scores.step == row.step) & (scores.block == row.block)]
    mine = mine[(mine.params == row.params) & (mine.name == "residual_norm")]
    sides = [mine[mine.population == side].score for side in ("private", "held_out")]
    assert row.value == pytest.approx(auroc(*sides).value)
    assert [len(side) for side in sides] == [row.n_members, row.n_nonmembers]
    events = EventAccumulator(str(run_dir))
    events.Reload()
    assert len(events.Scalars("3_blocks/private/residual_norm/norm/max_minus_min_corrected")) == 2
    drawn = {"3_blocks/private/profile", "3_blocks/private/evolution"}
    assert drawn <= set(events.Tags()["images"])
    evolution = evolution_of(earlier_rows(run_dir, "blocks", 10**6), "private")
    assert {len(by_step) for by_step in evolution.values()} == {2}
    assert not earlier_rows(run_dir, "blocks", int(results.step.min()))


def test_every_signal_runs_beside_a_checkpoint(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = spied(monkeypatch)
    validate = [
        "validate",
        *fragments("teacher", "audits/blocks_tuned")[1:],
        f"--ckpt_path={teacher / 'checkpoints' / 'last.ckpt'}",
        *(QUICK, "--trainer.callbacks.init_args.max_records=24"),
        f"--run_dir={tmp_path / 'all'}",
    ]
    main(validate)
    results = pd.read_parquet(tmp_path / "all" / "results.parquet")
    results = results[results.audit == "blocks"]
    expected = {"logit_lens", "residual_norm", "hidden_probe", "block_grad_norm", "block_mope"}
    assert set(results.name) == expected | {"tuned_lens", "attribution", "blind", "balance"}
    splits = pd.read_parquet(teacher / "private" / "manifest.parquet").set_index("id").split
    assert {splits[one.record_id] for one in passed} == {"development"}
    kl = results[results.metric.str.startswith("kl_")].set_index(["metric", "block"]).value
    assert 0 < kl["kl_tuned", 0] <= kl["kl_plain", 0]
    assert kl["kl_tuned", 1] == kl["kl_plain", 1] == 0
    areas = results[(results.metric == "auroc") & results.block.notna()]
    assert areas.value.notna().all()
    assert results.shifted.nunique(dropna=False) == 1
    reliable = results[results.metric == "reliability"]
    assert list(reliable.name) == ["block_mope"] * 2
    scores = pd.read_parquet(tmp_path / "all" / "scores.parquet")
    counts = scores.groupby(["name", "params", "block", "population"]).score.count()
    assert counts.groupby("population").nunique().eq(1).all()
    permuted = scores[scores.population == "private/permuted"]
    probes = areas[areas.name == "hidden_probe"].set_index("block")
    for block, own in permuted.groupby("block"):
        half = 1.959963984540054 * own.score.std(ddof=1)
        upper = min(1.0, probes.value[block] + half)
        assert probes.upper[block] == pytest.approx(upper)
    assert set(permuted.name) == {"hidden_probe"}


@pytest.mark.slow
def test_a_model_swapped_with_itself_loses_nothing(teacher: Path, tmp_path: Path) -> None:
    main(
        [
            "validate",
            *fragments("teacher", "audits/blocks_swap")[1:],
            f"--ckpt_path={teacher / 'checkpoints' / 'last.ckpt'}",
            f"--references.models.counterfactual={teacher / 'export'}",
            QUICK,
            f"--run_dir={tmp_path / 'swap'}",
        ]
    )
    results = pd.read_parquet(tmp_path / "swap" / "results.parquet")
    changes = results[results.metric == "auroc_change"]
    assert len(changes) == 4
    np.testing.assert_allclose(changes.value, 0.0, atol=1e-9)
    assert (changes.p_value == 1.0).all()
    np.testing.assert_allclose(results[results.metric == "nll_rise"].value, 0.0, atol=1e-5)


def test_signals_are_named_once() -> None:
    with pytest.raises(UserError, match="each once"):
        BlockAudit([LogitLens(), LogitLens()])
    with pytest.raises(UserError, match="at least one"):
        BlockAudit([])
    assert len(BlockAudit([LogitLens(), ResidualNorm()]).signals) == 2
