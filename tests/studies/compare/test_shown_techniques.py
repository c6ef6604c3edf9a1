"""A study shows its techniques by what ran, on the page, in its tables and in its findings."""

from io import StringIO
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from rich.console import Console

from audits.mechanism import Mechanism
from audits.results import merge_parts, write_part
from studies.claims import study_findings
from studies.claims.output import findings_json
from studies.compare.shown_techniques import as_they_ran, mechanisms_of
from studies.compare.tables import write_study_tables
from studies.plan.cells import Plan
from studies.report import write_report
from studies.report.notices import notices
from studies.report.sections.leaks import membership_table
from studies.report.study_data import read_study_data
from tests.studies.planted_report import cell
from tests.studies.shown_page import Page

OUT = Path("runs/small")
OFFLINE = {"share_fresh": 0.0, "share_replayed": 0.0, "share_fixed": 1.0}
LIVE = {"share_fresh": 0.25, "share_replayed": 0.5, "share_fixed": 0.25}


def write_mechanisms(plan: Plan, step: int, figures: dict[str, dict[str, float]]) -> None:
    """Adds to the students' tables what ran, by role."""
    for one in plan.cells:
        params = {"objective": "SkewReverseKL", "source": "AdaptiveReplay"}
        shared = {"run": one.alias, "role": one.role, "step": step, "audit": "mechanism"}
        rows = [
            {**shared, "name": "responses", "params": params, "metric": metric, "value": value}
            for metric, value in figures.get(one.role, {}).items()
        ]
        if rows:
            write_part(one.run_dir, "results", step, "mechanism", rows)
            merge_parts(one.run_dir)


def titles(plan: Plan) -> list[str]:
    return [one.title for one in notices(read_study_data(plan, OUT), out_of_date=False)]


@pytest.mark.usefixtures("without_pictures")
def test_a_technique_that_ran_offline_is_shown_so_everywhere(
    finished: Plan, planted: ModuleType
) -> None:
    write_mechanisms(finished, planted.STEP, dict.fromkeys(("student", "counterfactual"), OFFLINE))
    console = Console(width=300, record=True, file=StringIO())
    page = write_report(finished, OUT, console=console)
    data = read_study_data(finished, OUT)
    name = "offline skew reverse KL"
    students = {one.technique for one in data.cells if one.role in ("student", "counterfactual")}
    assert students == {name}
    assert set(data.results["technique"].dropna()) == {name}
    assert "kd ran offline in every run" in titles(finished)
    assert f"Student · {name}" in data.labels.values()
    shown = [row[0] for row in Page(page.read_text()).rows if row]
    students = [text for text in shown if text.startswith("Student")]
    assert students
    # Wherever the run has a row of its own, its shares stand beside it.
    note = "(0% fresh, 0% replayed, 100% fixed)"
    assert set(students) == {f"Student · {name} {note}"}
    assert not any("· kd" in text for text in shown)
    assert "· kd" not in page.read_text().replace("student-kd", "")
    assert f"Student · {name} {note}" in console.export_text()
    assert name in findings_json(study_findings(finished, OUT))
    figure = next(iter((OUT / "report/tables").glob("membership.csv"))).read_text()
    assert f"Student · {name}," in figure


def test_a_live_technique_keeps_its_name_beside_its_shares(
    finished: Plan, planted: ModuleType
) -> None:
    write_mechanisms(finished, planted.STEP, {"student": LIVE})
    write_study_tables(finished, OUT)
    data = read_study_data(finished, OUT)
    cells = [row[0].text for row in membership_table(data).rows]
    assert "Student · kd (25% fresh, 50% replayed, 25% fixed)" in cells
    assert "What of the techniques ran" in titles(finished)
    assert not any("offline" in title for title in titles(finished))


def test_runs_that_did_not_all_run_say_how_many(finished: Plan, planted: ModuleType) -> None:
    write_mechanisms(finished, planted.STEP, {"student": LIVE, "counterfactual": OFFLINE})
    write_study_tables(finished, OUT)
    data = read_study_data(finished, OUT)
    assert "Student · kd (offline skew reverse KL in 1 of 2 runs)" in data.labels.values()
    assert "kd ran offline in 1 of 2" in titles(finished)


def test_without_rows_nothing_is_said(finished: Plan) -> None:
    write_study_tables(finished, OUT)
    data = read_study_data(finished, OUT)
    assert (data.mechanisms, data.notes) == ({}, {})
    assert "Student · kd" in data.labels.values()


@pytest.mark.parametrize("labels", [("distillm", "distillm_again"), ("a+replay", "b+replay")])
def test_two_techniques_stay_two_and_products_keep_their_factors(labels: tuple[str, str]) -> None:
    cells = tuple(cell("student", name) for name in labels)
    plan = Plan("planted", "Planted", "", "planted.yaml", 1, {}, cells)
    mechanisms = {one.alias: Mechanism(OFFLINE, "SkewReverseKL") for one in cells}
    shown = [one.technique for one in as_they_ran(plan, mechanisms).cells]
    if "+" in labels[0]:
        assert shown == list(labels)
    else:
        assert shown == [f"offline skew reverse KL ({name})" for name in labels]
    assert len(set(shown)) == 2


def test_mechanisms_are_read_by_run(finished: Plan, planted: ModuleType) -> None:
    write_mechanisms(finished, planted.STEP, {"student": LIVE})
    write_study_tables(finished, OUT)
    found = mechanisms_of(pd.read_parquet(OUT / "results.parquet"))
    assert [dict(one.figures) for one in found.values()] == [LIVE]
