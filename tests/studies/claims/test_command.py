"""`kd-study claims` and the page's section, from the tables of finished runs."""

import json
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from kd_privacy.study_cli import main
from studies.plan.cells import Plan
from studies.report import write_report
from studies.run.cell_state import CellFiles
from tests.studies.shown_page import add_rows

OUT = Path("runs/small")
STUDY = "configs/studies/small.yaml"


@pytest.fixture
def memorized(finished: Plan, planted: ModuleType) -> Plan:
    """A finished study of one replicate in which memorization was measured."""
    for cell in finished.cells:
        folder = CellFiles(cell).folder
        planted.write_planted_accuracy(folder, cell.alias, cell.role, cell.seed)
    add_rows(finished, planted, [{"name": "balance", "metric": "dealt_by_coins", "value": 1.0}])
    (OUT / "plan.json").write_text(json.dumps(finished.as_dict()))
    return finished


def above(members: np.ndarray, nonmembers: np.ndarray) -> float:
    return float(np.mean(members[:, None] > nonmembers[None]))


def test_the_command_speaks_of_these_weights(
    memorized: Plan, planted: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["claims", STUDY, "--run_dir", str(OUT), "--json"]) == 0
    findings = {one["id"]: one for one in json.loads(capsys.readouterr().out)}
    assert set(findings) == {"C1", "C2", "C3", "C4", "C5"}
    assert {one["verdict"] for one in findings.values()} == {"undecided"}
    assert findings["C1"]["these_weights"] == "confirmed"
    membership, memorization = findings["C1"]["statements"]
    ours, theirs = (planted.planted_scores(role, 1, 0) for role in ("student", "counterfactual"))
    assert membership["outcome"]["effect"] == pytest.approx((above(*ours) + 1 - above(*theirs)) / 2)
    accuracy = [planted.planted_accuracy(role, 1) for role in ("student", "counterfactual")]
    sides = [accuracy[0][name] - accuracy[1][name] for name in ("private", "held_out")]
    excess = sides[0].mean() - sides[1].mean()
    assert memorization["outcome"]["effect"] == pytest.approx(excess)
    floor = (1.6448536 / planted.RECORDS) ** 2
    error = sum(one.var(ddof=1) / len(one) + floor for one in sides) ** 0.5
    assert memorization["outcome"]["lower"] == pytest.approx(excess - 1.6448536 * error)
    assert memorization["n"] == f"1 replicate, {planted.RECORDS} + {planted.RECORDS} records"
    assert main(["claims", STUDY, "--run_dir", str(OUT)]) == 0
    text = capsys.readouterr().out
    assert "UNDECIDED (THESE WEIGHTS ONLY: CONFIRMED)" in text
    assert "smallest visible effect" in text
    assert "minillm is not in this study" in text
    assert main(["claims", STUDY, "--run_dir", str(OUT), "--data.source", "x"]) == 2
    assert "claims take no options" in capsys.readouterr().err


@pytest.mark.usefixtures("without_pictures")
def test_the_page_shows_findings_after_the_answer(memorized: Plan) -> None:
    text = write_report(memorized, OUT).read_text(encoding="utf-8")
    places = [text.index(f'id="{name}"') for name in ("answer", "findings")]
    assert places == sorted(places)
    said = re.sub(r"<[^>]+>", "", text)
    assert re.search(r"C1\W+Every technique leaks membership[^.]*undecided", said)
    table = pd.read_csv(OUT / "report/tables/findings.csv")
    assert set(table["claim"]) == {"C1", "C2", "C3", "C4", "C5"}
    own = table[(table["claim"] == "C1") & table["measure"].str.startswith("membership")].iloc[0]
    assert f"{own['effect']:.3f} [{own['lower']:.3f}, {own['upper']:.3f}]" in text
