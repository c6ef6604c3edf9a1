"""The report: right figures, no network, warnings first; what is not measured is not shown."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from studies.plan.cells import Plan
from studies.plan.planner import make_plan
from studies.plan.study_file import read_study
from studies.report import write_report
from studies.report.sections.roc import thinned_roc
from studies.run.cell_state import CellFiles
from tests.audit_schema import valid_audit
from tests.studies.shown_page import Page, add_rows, pairs_won
from tests.studies.small_study import write_project

PlanOf = Callable[..., Plan]
OUT = Path("runs/small")
SHOWN = """
answer sure utility tasks exposed_records leaks attacks roc inherited findings methods every-table
""".split()


def test_the_page_shows_the_tables_figures_and_needs_no_network(
    finished: Plan, planted: ModuleType
) -> None:
    path = write_report(finished, OUT)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert path == OUT / "report" / "index.html"
    assert len(text) < 5_000_000
    assert all(a.startswith(("#", "data:")) for a in page.addresses)
    assert "default-src 'none'" in text
    assert not re.search(r"@import|url\(\s*['\"]?http", text)
    student = pairs_won(*planted.planted_scores("student", 1, 0))
    row = next(row for row in page.rows if row[:2] == ["Student · kd", "Loss"])
    assert row[2].startswith(f"{student:.3f} [")
    assert row[4:] == ["not measurable", "90", "90"]
    specs = json.loads(page.scripts[0])
    assert sorted(specs) == sorted(
        "attacks differences swaps heat roc roc_log rouge perplexity tasks".split()
    )
    assert not any("$schema" in spec for spec in specs.values())
    assert all(f'data-spec="{name}"' in text for name in specs)
    places = [text.index(f' id="{one}"') for one in SHOWN]
    assert places == sorted(places)
    exposed = pd.read_csv(OUT / "report/tables/exposed_records.csv").iloc[0]
    gained = planted.planted_scores("student", 1, 0) - planted.planted_scores(
        "counterfactual", 1, 0
    )
    assert exposed["record"] == f"private-{gained[0].argmax()}"
    assert exposed["excess"] == pytest.approx(gained[0].max())
    scores = planted.planted_scores("student", 1, 0)
    above = (scores[1] >= scores[0, gained[0].argmax()]).mean()
    assert exposed["accused"] == pytest.approx(100 * above)
    csv = pd.read_csv(OUT / "report/tables/membership.csv")
    value = csv[(csv["role"] == "student") & (csv["name"] == "loss")]["value"].item()
    assert value == pytest.approx(student, abs=1e-12)
    assert sorted(file.stem for file in (OUT / "report/tables").glob("*.csv")) == [
        "blind",
        "by_access",
        "comparisons",
        "exposed_records",
        "findings",
        "membership",
        "runs",
        "tasks",
        "utility",
    ]


@pytest.mark.usefixtures("without_pictures")
def test_warnings_come_first(finished: Plan) -> None:
    text = write_report(finished, OUT, out_of_date=True).read_text(encoding="utf-8")
    main_part = text[text.index("<main>") :]
    assert main_part.index("Know this first") < main_part.index('id="sure"')
    assert main_part.index('class="notices"') < main_part.index('id="sure"')
    for notice in (
        "Loss 2 (Control)",
        "TPR at 1% FPR: not measurable in 20 rows",
        "Control: not shown to be clean",
        "1 replicate",
        "changed since the last run",
        "Shift between the record sets: not excluded",
    ):
        assert notice in main_part
    assert "Control clean" not in main_part


@dataclass(frozen=True)
class Shown:
    """A plan whose audits wrote more rows, its page without pictures, and its tables."""

    plan: Plan
    page: Page
    tables: Path


@pytest.fixture(scope="module")
def shown(
    finished_runs: Path, planted: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> Shown:
    """A text baseline, equivalent epsilons that are infinite or missing, and bounds on epsilon."""
    blind = {"name": "blind", "params": {"margin": 0.05}, "shifted": None}
    area = {"metric": "auroc", "value": 0.987654, "lower": 0.96, "upper": 0.99, "p_value": 0.005}
    rows = [
        blind | area,
        blind | {"metric": "records_needed", "value": 697.0},
        {"name": "loss", "metric": "epsilon_equivalent_at_fpr_0.1", "value": float("inf")},
        {"name": "loss", "metric": "epsilon_equivalent_at_fpr_0.01"},
    ]
    rows += [
        {
            **{"name": "loss", "metric": "epsilon_lower", "value": delta, "lower": delta},
            **{"population": population, "params": {"delta": delta, "unit": unit, "looks": 3}},
        }
        for population, unit in (("private", "cluster"), ("canary_in", "record"))
        for delta in (0.0, 0.00107)
    ]
    folder = tmp_path_factory.mktemp("shown")
    write_project(folder)
    shutil.copytree(finished_runs, folder / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("studies.report.page.write_charts", lambda specs, folder: None)
        patch.setattr("studies.report.render.vega_bundle", str)
        plan = make_plan(read_study("configs/studies/small.yaml"), OUT, {})
        add_rows(plan, planted, rows)
        page = Page(write_report(plan, OUT).read_text(encoding="utf-8"))
    return Shown(plan, page, folder / OUT / "report/tables")


def test_the_blind_baseline_stands_beside_the_attacks_and_is_none(
    shown: Shown, planted: ModuleType
) -> None:
    specs = json.loads(shown.page.scripts[0])
    assert [name for name, spec in specs.items() if "0.987654" in json.dumps(spec)] == ["attacks"]
    chart = specs["attacks"]
    for layer in chart["layer"]:
        drawn = json.dumps(chart["datasets"][layer["data"]["name"]])
        among_attacks = "yOffset" in layer["encoding"]
        assert not (among_attacks and "Blind" in drawn)
    marked = [
        layer
        for layer in chart["layer"]
        if "Blind" in str(chart["datasets"][layer["data"]["name"]])
    ]
    assert {layer["encoding"]["x"]["field"] for layer in marked} == {"value", "lower"}
    assert set(pd.read_csv(shown.tables / "membership.csv")["name"]) == set(planted.ATTACKS)
    rows = pd.read_csv(shown.tables / "blind.csv")
    assert list(rows["run"]) == list(rows["run"].unique())
    assert len(rows) == len(shown.plan.cells)
    # The text is the same for every model, so that one row tells it.
    row = next(row for row in shown.page.rows if row[:2] == [f"all {len(rows)}", "not excluded"])
    assert row[2:] == ["0.988 [0.960, 0.990]", "0.005", "697", "90", "90"]


def test_the_tables_tell_an_infinite_equivalent_epsilon_from_a_missing_one(shown: Shown) -> None:
    lines = (shown.tables / "membership.csv").read_text().splitlines()
    cells = dict(
        zip(
            lines[0].split(","),
            next(row for row in lines if ",loss," in row).split(","),
            strict=True,
        )
    )
    assert cells["epsilon_equivalent_at_fpr_0.1_value"] == "inf"
    assert cells["epsilon_equivalent_at_fpr_0.01_value"] == ""


def test_a_bound_on_epsilon_names_its_delta_and_renames_no_attack(shown: Shown) -> None:
    told = [row[3:5] for row in shown.page.rows if "Lower bound on ε, one run" in row]
    assert told[:2] == [
        ["Lower bound on ε, one run", "Loss, δ = 0"],
        ["Lower bound on ε, one run", "Loss, δ = 0.0011"],
    ]
    assert ["Student · kd", "Loss"] in [row[:2] for row in shown.page.rows]


@pytest.mark.usefixtures("without_pictures")
def test_a_half_finished_study_has_a_page(finished: Plan) -> None:
    student = next(cell for cell in finished.cells if cell.stage == "student")
    CellFiles(student).write("failed", {"reason": "exit status 1"})
    text = write_report(finished, OUT).read_text(encoding="utf-8")
    assert "1 of 5 cells are not done" in text
    assert "student-kd-tiny-r1 (failed)" in text
    models = valid_audit(OUT / "report" / "audit.json")["models"]
    assert [one["role"] for one in models] == ["teacher", "control"]


@pytest.mark.usefixtures("without_pictures")
def test_a_study_without_results_has_a_page(tables: Path, plan_of: PlanOf) -> None:
    text = write_report(plan_of(), OUT).read_text(encoding="utf-8")
    assert "5 of 5 cells are not done" in text
    assert "No membership audit is finished yet" in text
    assert valid_audit(OUT / "report" / "audit.json")["models"] == []


def test_roc_points_lie_on_the_curve_and_keep_its_ends() -> None:
    rng = np.random.default_rng(0)
    members, nonmembers = rng.normal(1, 1, 700).round(1), rng.normal(0, 1, 500).round(1)
    points = thinned_roc(members, nonmembers)
    assert len(points) < 130
    assert points.iloc[0].to_list() == [0, 0]
    assert points.iloc[1].to_list() == [0, (members > nonmembers.max()).mean()]
    assert points.iloc[-1].to_list() == [1, 1]
    curve = {
        ((nonmembers >= t).mean(), (members >= t).mean())
        for t in np.concatenate([members, nonmembers])
    }
    assert set(map(tuple, points.to_numpy()[1:])) <= curve
