"""The report: right figures, no network, warnings; comparison rows against plain loops."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from callbacks.results import merge_parts, read_table, write_part
from datamodules.manifest import write_manifest
from datamodules.records import InstructionRecord
from datamodules.splits import Placement
from studies.cell_state import CellFiles
from studies.plan import Plan
from studies.report import write_report
from studies.report.figures import thinned_roc
from studies.report.notices import notices
from studies.report.study_data import read_study_data
from studies.tables import write_study_tables

PlanOf = Callable[..., Plan]
OUT = Path("runs/small")


class Page(HTMLParser):
    """Collects table rows, links and the chart specifications."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self.tag = ""
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tag = tag
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.tag = ""

    def handle_data(self, data: str) -> None:
        if self.tag == "td":
            self.rows[-1][-1] += data
        if self.tag == "script":
            self.scripts.append(data)


def pairs_won(members: np.ndarray, nonmembers: np.ndarray) -> float:
    won = sum((m > n) + 0.5 * (m == n) for m in members for n in nonmembers)
    return float(won) / (len(members) * len(nonmembers))


def test_comparisons_equal_a_plain_loop(finished: Plan, planted: ModuleType) -> None:
    write_study_tables(finished, OUT)
    results = read_table(OUT, "results").to_pandas()
    rows = results[results["run_b"].notna() & (results["name"] == "loss")]
    found = {
        (row["role"], row["run_b"].split("-")[0], row["metric"]): row for _, row in rows.iterrows()
    }
    auroc = {
        role: pairs_won(*planted.planted_scores(role, 1, 0))
        for role in ("teacher", "counterfactual_teacher", "student", "counterfactual", "control")
    }
    expected = {
        ("student", "control", "auroc_difference"): auroc["student"] - auroc["control"],
        ("student", "counterfactual", "auroc_difference"): auroc["student"]
        - auroc["counterfactual"],
        ("student", "counterfactual", "swap_estimate"): (
            auroc["student"] + 1 - auroc["counterfactual"]
        )
        / 2,
        ("teacher", "counterfactual_teacher", "auroc_difference"): auroc["teacher"]
        - auroc["counterfactual_teacher"],
        ("teacher", "counterfactual_teacher", "swap_estimate"): (
            auroc["teacher"] + 1 - auroc["counterfactual_teacher"]
        )
        / 2,
    }
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert found[key]["value"] == pytest.approx(value, abs=1e-12)
        assert found[key]["lower"] < value < found[key]["upper"]
        assert found[key]["n_members"] == planted.RECORDS


def test_the_difference_of_two_losses_is_an_attack(finished: Plan, planted: ModuleType) -> None:
    write_study_tables(finished, OUT)
    results = read_table(OUT, "results").to_pandas()
    rows = results[results["run_b"].notna() & (results["metric"] == "auroc")]
    found = {(row["role"], row["name"]): row for _, row in rows.iterrows()}
    others = {
        ("student", "inherited"): "counterfactual",
        ("student", "control_reference"): "control",
        ("teacher", "inherited"): "counterfactual_teacher",
    }
    assert set(found) == set(others)
    for (role, name), other in others.items():
        ours, theirs = planted.planted_scores(role, 1, 0), planted.planted_scores(other, 1, 0)
        value = pairs_won(*(a - b for a, b in zip(ours, theirs, strict=True)))
        row = found[role, name]
        assert row["value"] == pytest.approx(value, abs=1e-12)
        assert row["lower"] < value <= row["upper"]
        assert row["run_b"].startswith(other)


def test_records_of_one_cluster_widen_every_comparison(finished: Plan) -> None:
    def widths() -> dict[tuple[str, str, str], float]:
        write_study_tables(finished, OUT)
        rows = read_table(OUT, "results").to_pandas().query("run_b.notna()", engine="python")
        return {
            (row["run"], row["run_b"], f"{row['name']} {row['metric']}"): row["upper"]
            - row["lower"]
            for _, row in rows.iterrows()
        }

    alone = widths()
    scores = read_table(OUT, "scores").to_pandas()
    records = scores.drop_duplicates("record")
    for cell in finished.cells:
        rows = [
            Placement(
                InstructionRecord(record, "", "", record, "open_qa", ""),
                content=record,
                split=population,
                role="audit",
                cluster=f"cluster {number // 6}",
                coin=None,
                part=None,
            )
            for number, (record, population) in enumerate(
                zip(records["record"], records["population"], strict=True)
            )
        ]
        write_manifest(rows, Path(cell.run_dir) / "private")
    together = widths()
    assert together.keys() == alone.keys()
    changed = sum(together[key] != alone[key] for key in alone)
    assert changed == len(alone)


def test_writing_the_tables_again_doubles_nothing(finished: Plan) -> None:
    write_study_tables(finished, OUT)
    before = (OUT / "results.parquet").read_bytes()
    write_study_tables(finished, OUT)
    assert (OUT / "results.parquet").read_bytes() == before


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
    csv = pd.read_csv(OUT / "report/tables/membership.csv")
    value = csv[(csv["role"] == "student") & (csv["name"] == "loss")]["value"].item()
    assert value == pytest.approx(student, abs=1e-12)
    assert sorted(file.stem for file in (OUT / "report/tables").glob("*.csv")) == [
        "blind",
        "comparisons",
        "findings",
        "membership",
        "runs",
        "tasks",
        "utility",
    ]


def test_warnings_come_first(finished: Plan) -> None:
    text = write_report(finished, OUT, out_of_date=True).read_text(encoding="utf-8")
    main_part = text[text.index("<main>") :]
    assert main_part.index('id="warnings"') < main_part.index('id="result"')
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


def add_rows(plan: Plan, planted: ModuleType, rows: list[dict[str, object]]) -> None:
    """Writes more rows about private records into the table of every cell."""
    for cell in plan.cells:
        shared = {
            **{"run": cell.alias, "role": cell.role, "step": planted.STEP, "audit": "membership"},
            **{"population": "private", "n_members": 90, "n_nonmembers": 90},
        }
        write_part(cell.run_dir, "results", planted.STEP, "more", [shared | row for row in rows])
        merge_parts(cell.run_dir)


def test_the_blind_baseline_stands_beside_the_attacks_and_is_none(
    finished: Plan, planted: ModuleType
) -> None:
    blind = {"name": "blind", "params": {"margin": 0.05}, "shifted": None}
    area = {"metric": "auroc", "value": 0.987654, "lower": 0.96, "upper": 0.99, "p_value": 0.005}
    needed = {"metric": "records_needed", "value": 697.0}
    add_rows(finished, planted, [blind | area, blind | needed])
    page = Page(write_report(finished, OUT).read_text(encoding="utf-8"))
    specs = json.loads(page.scripts[0])
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
    tables = OUT / "report/tables"
    assert set(pd.read_csv(tables / "membership.csv")["name"]) == set(planted.ATTACKS)
    rows = pd.read_csv(tables / "blind.csv")
    assert list(rows["run"]) == list(rows["run"].unique())
    assert len(rows) == len(finished.cells)
    # The text is the same for every model, so that one row tells it.
    row = next(row for row in page.rows if row[:2] == [f"all {len(rows)}", "not excluded"])
    assert row[2:] == ["0.988 [0.960, 0.990]", "0.005", "697", "90", "90"]


def test_tasks_without_enough_records_take_one_sentence(
    finished: Plan, planted: ModuleType
) -> None:
    rare = {"name": "loss", "metric": "tpr_at_fpr_0.01"}
    add_rows(finished, planted, [rare | {"task": task} for task in planted.TASKS])
    write_report(finished, OUT)
    found = notices(read_study_data(finished, OUT), out_of_date=False)
    lines = [one for one in found if "not measurable" in one.title]
    assert [one.title for one in lines] == ["TPR at 1% FPR: not measurable in 20 rows"]
    (within,) = [one for one in found if one.title.startswith("Within tasks")]
    assert within.level == "note"
    assert "3 tasks" in within.text
    assert "TPR at 1% FPR of some runs (15 rows" in within.text


def test_the_tables_tell_an_infinite_equivalent_epsilon_from_a_missing_one(
    finished: Plan, planted: ModuleType
) -> None:
    endless = {"name": "loss", "metric": "epsilon_equivalent_at_fpr_0.1", "value": float("inf")}
    missing = {"name": "loss", "metric": "epsilon_equivalent_at_fpr_0.01"}
    add_rows(finished, planted, [endless, missing])
    write_report(finished, OUT)
    lines = (OUT / "report/tables/membership.csv").read_text().splitlines()
    cells = dict(
        zip(
            lines[0].split(","),
            next(row for row in lines if ",loss," in row).split(","),
            strict=True,
        )
    )
    assert cells["epsilon_equivalent_at_fpr_0.1_value"] == "inf"
    assert cells["epsilon_equivalent_at_fpr_0.01_value"] == ""


def test_shift_is_the_gravest_notice_and_its_absence_names_the_records_needed(
    finished: Plan,
) -> None:
    write_report(finished, OUT)
    data = read_study_data(finished, OUT)
    rows = data.results
    blind = rows[rows["audit"] == "membership"].head(1)
    blind = blind.assign(name="blind", metric="records_needed", value=697.0, shifted=None)
    unknown = replace(data, results=pd.concat([rows, blind]))
    texts = {found.title: found for found in notices(unknown, out_of_date=False)}
    note = texts["Shift between the record sets: not excluded"]
    assert (note.level, "697 records a side" in note.text) == ("note", True)
    clear = replace(data, results=rows.assign(shifted=False))
    assert not any("Shift" in one.title for one in notices(clear, out_of_date=False))
    shifted = replace(data, results=rows.assign(shifted=True))
    assert notices(shifted, out_of_date=False)[0].title == "Shifted data"


def test_a_control_is_clean_only_where_equivalence_is_shown(
    finished: Plan, planted: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planted, "RECORDS", 1500)
    control = next(cell for cell in finished.cells if cell.role == "control")
    planted.write_planted(CellFiles(control).folder, control.alias, "control", control.seed)
    assert "Control clean" in write_report(finished, OUT).read_text(encoding="utf-8")
    planted.write_planted(CellFiles(control).folder, control.alias, "student", control.seed)
    text = write_report(finished, OUT).read_text(encoding="utf-8")
    assert "Control: AUROC differs from 0.5" in text


def test_a_half_finished_study_has_a_page(finished: Plan) -> None:
    student = next(cell for cell in finished.cells if cell.stage == "student")
    CellFiles(student).write("failed", {"reason": "exit status 1"})
    text = write_report(finished, OUT).read_text(encoding="utf-8")
    assert "1 of 5 cells are not done" in text
    assert "student-kd-tiny-r1 (failed)" in text


def test_a_study_without_results_has_a_page(tables: Path, plan_of: PlanOf) -> None:
    text = write_report(plan_of(), OUT).read_text(encoding="utf-8")
    assert "5 of 5 cells are not done" in text
    assert "No membership audit is finished yet" in text


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


def test_an_equivalent_epsilon_without_a_value_has_no_line_of_its_own(finished: Plan) -> None:
    write_study_tables(finished, OUT)
    data = read_study_data(finished, OUT)
    changed = {"metric": "epsilon_equivalent_at_fpr_0.01", "value": None, "task": None}
    row = data.results.head(1).assign(**changed)
    with_null = replace(data, results=pd.concat([data.results, row], ignore_index=True))
    titles = [found.title for found in notices(with_null, out_of_date=False)]
    assert not any("epsilon" in title for title in titles)
    other = replace(with_null, results=with_null.results.replace(row["metric"].item(), "auroc"))
    unmeasured = [found.title for found in notices(other, out_of_date=False)]
    assert any(title.startswith("AUROC: not measurable") for title in unmeasured)


def test_skipped_records_are_told_once_for_all_models(finished: Plan) -> None:
    write_study_tables(finished, OUT)
    data = read_study_data(finished, OUT)
    rows = data.results.assign(skipped=0.0)
    rows.loc[rows["name"] == "loss", "skipped"] = 3.0
    one = rows["name"].eq("zlib") & rows["run"].eq(finished.cells[0].alias)
    rows.loc[one, "skipped"] = 2.0
    found = notices(replace(data, results=rows), out_of_date=False)
    (told,) = [one for one in found if one.title == "Records without a score"]
    label = data.labels[finished.cells[0].alias]
    assert told.text.endswith(f"Loss 3 (all {len(finished.cells)} models); Zlib 2 ({label}).")
