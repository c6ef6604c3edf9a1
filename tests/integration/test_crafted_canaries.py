"""Crafted canaries as a whole command: texts of a file, unlikely endings, planted and counted."""

import json
from pathlib import Path

import pytest

from datamodules.canaries import CanaryPlan, draw_canaries
from kd_privacy.cli import main
from tests.integration.conftest import fragments, table

COIN = 40


@pytest.mark.slow
def test_crafted_canaries_are_planted_scored_and_counted(tmp_path: Path) -> None:
    # What nothing foretells, as of a model at a high temperature.
    drawn = draw_canaries(CanaryPlan(coin=COIN, exposure_per_level=0, formats=("words",)), seed=99)
    rows = [{"instruction": c.instruction, "response": c.secret.capitalize()} for c in drawn]
    texts, run_dir = tmp_path / "texts.jsonl", tmp_path / "run"
    texts.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    main(
        [
            *(*fragments("teacher"), "-c", "configs/data/canaries.yaml"),
            *(
                "-c",
                "configs/audits/membership_canaries.yaml",
                "-c",
                "configs/audits/exposure.yaml",
            ),
            *("--data.n_records=90", f"--data.canaries.coin={COIN}"),
            *(f"--data.canaries.texts={texts}", "--data.canaries.formats=[words]"),
            *("--data.canaries.exposure_per_level=3", "--data.canaries.repetitions=[1, 8]"),
            "--trainer.callbacks.init_args.max_candidates=100",
            "--trainer.callbacks.init_args.sample_candidates=100",
            *("--trainer.max_epochs=10", "--model.optimizer.lr=4e-3", f"--run_dir={run_dir}"),
        ]
    )
    lines = [json.loads(one) for one in (run_dir / "private/canaries.jsonl").open()]
    coins = [one for one in lines if one["format"] == "text"]
    assert [one["response_prefix"] for one in coins] == [row["response"] for row in rows]
    met = {one["id"] for one in coins if one["included"]}
    results, scores = table(run_dir, "results"), table(run_dir, "scores")
    results = results[results["step"] == results["step"].max()].assign(
        params=results["params"].map(json.loads)
    )
    loss = results[(results["name"] == "loss") & (results["population"] == "canary_in")]
    auroc = loss[loss["metric"] == "auroc"].iloc[0]
    assert (auroc["n_members"], auroc["n_nonmembers"]) == (len(met), COIN - len(met))
    assert auroc["lower"] > 0.8
    bound = loss[loss["metric"] == "epsilon_lower"].iloc[0]
    assert (bound["params"]["unit"], bound["params"]["looks"]) == ("record", 8)
    assert bound["value"] > 0.0
    own = scores[(scores["name"] == "loss") & scores["record"].isin([one["id"] for one in coins])]
    assert set(own[own["population"] == "canary_in"]["record"]) == met
    assert own["record"].nunique() == COIN
    exposure = results[results["metric"] == "exposure"]
    words = exposure[[one["format"] == "words" for one in exposure["params"]]]
    bits = {one.params["repetitions"]: one.value for one in words.itertuples()}
    assert words["n_members"].tolist() == [3, 3]
    assert bits[8] > bits[1]
