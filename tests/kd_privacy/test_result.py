"""What an audit says beside its figures."""

import json
import re
from pathlib import Path

import numpy as np

from audits.context import Measurements
from audits.membership.dataset_inference import dataset_inference_rows
from audits.membership.metrics import ScoredRecords, attack_rows
from audits.membership.score_rows import ScoreRows
from audits.membership.worst_task import WORST_TASK
from audits.results import table_from_rows
from audits.rows import ResultRow
from datamodules.record_names import RecordNames
from kd_privacy.pair_result import PairAudit
from kd_privacy.result import Audit


def test_the_worst_task_is_named_with_its_figure() -> None:
    identity = {"run": "a", "role": "external", "step": 0, "audit": "membership"}
    known = {"population": "external", "task": "legal", "name": "min_k", "metric": WORST_TASK}
    row = ResultRow(**known, params={"k": 0.2}, value=0.8125, lower=0.7, upper=0.9)
    tables = {"results": table_from_rows("results", [{**identity, **row}])}
    assert Audit(tables, {}, ["first"], {}, {}).notes == [
        "first",
        "worst task, named by one half of the records: min_k (k=0.2) legal 0.812 [0.700, 0.900]",
    ]


def audit_of(run: str, shift: float) -> Audit:
    """An audit of 200 records a side by two attacks that members score higher under."""
    rng = np.random.default_rng(0)
    inside, outside = (
        [
            ScoredRecords(
                population,
                [f"{population}{i}" for i in range(200)],
                ["qa"] * 200,
                np.arange(200) + first,
                rng.normal(mean, size=200),
            )
            for _ in range(2)
        ]
        for population, mean, first in (("external", shift, 0), ("held_out", 0.0, 1000))
    )
    rows = attack_rows("loss", {}, inside[0], outside[0], (0.1,))
    rows += dataset_inference_rows(inside, outside, None)
    rows += dataset_inference_rows(inside, outside, None, {"unit": "subject"})
    identity = {"run": run, "role": run, "seed": 0, "step": 0}
    found = {name: Measurements() for name in ("known_text", "precision")}
    scores = ScoreRows()
    for side in (inside, outside):
        scores.add("loss", {}, side[0])
    found |= {"membership": Measurements(results=rows, scores=scores)}
    about = {"run": run, "model": {"source": f"./{run}"}}
    return Audit.of(found, identity, 0.95, [], about, RecordNames())


def test_sets_of_records_stand_in_text_page_and_summary(tmp_path: Path) -> None:
    leaking, clean = audit_of("teacher", 0.5), audit_of("student", 0.0)
    found = leaking.results.set_index("metric")
    found = found[~found["params"].str.contains("subject")]
    effect, p = found.loc["set_effect", ["value", "p_value"]]
    sets = found.loc["sets_detected"]
    shares = {
        json.loads(own)["set_size"]: 100 * v for own, v in zip(sets.params, sets.value, strict=True)
    }
    note = (
        f"as one set: p = {p:.2g}; recognised are {shares[5]:.0f}% of sets of 5, {shares[10]:.0f}"
    )
    assert str(leaking).count(note) == 1
    pair = PairAudit(clean, leaking, None, table_from_rows("results", []), [])
    assert "- teacher: all attacks together on a half of the members" in str(pair)
    assert "- student: all attacks together on a half of the members" in str(pair)
    for audit, labels in ((leaking, ["teacher"]), (pair, ["Student", "Teacher"])):
        folder = tmp_path / str(len(labels))
        page = audit.save(folder).read_text(encoding="utf-8")
        told = re.sub(r"<[^>]+>", " ", page[page.index("Sets of records that are recognised") :])
        assert f"{effect:.2f}" in told.split("Somebody with many records")[0]
        assert all(label in told for label in labels)
        summary = json.loads((folder / "audit.json").read_text())
        figures = [one for one in summary["figures"] if one["metric"] == "set_effect"]
        own = [one for one in figures if "unit" not in one["params"] and one["run"] == "teacher"]
        assert [(one["value"], one["p_value"]) for one in own] == [(effect, p)]
    assert p < 0.01
    assert shares[5] < 90 < shares[50]
