"""Study-level memorization against plain loops on planted accuracies; its section of the page."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from audits.results import merge_parts, read_table, write_part
from studies.compare.tables import write_study_tables
from studies.plan.cells import Plan
from studies.plan.planner import make_plan
from studies.plan.study_file import read_study
from studies.report import write_report
from studies.run.cell_state import CellFiles
from tests.studies import planted as tables
from tests.studies.small_study import write_project

PlanOf = Callable[..., Plan]
OUT = Path("runs/small")


def finish(plan: Plan, planted: ModuleType, leak_of: Callable[[str], float]) -> None:
    """Plants tables for every cell; `leak_of` says what a technique memorizes more."""
    for cell in plan.cells:
        files = CellFiles(cell)
        planted.write_planted(files.folder, cell.alias, cell.role, cell.seed)
        more = leak_of(cell.technique) if cell.technique else 0.0
        planted.write_planted_accuracy(files.folder, cell.alias, cell.role, cell.seed, more)
        (files.folder / "export").mkdir(exist_ok=True)
        (files.folder / "export" / "model.txt").write_text(cell.alias)
        files.write("done", {"seconds": 75.0, "versions": {"torch": "2"}, "machine": "x86"})


def read_rows(out: Path) -> pd.DataFrame:
    rows = read_table(out, "results").to_pandas()
    rows = rows[rows["audit"] == "memorization"].reset_index(drop=True)
    return rows.join(pd.DataFrame(rows["params"].map(json.loads).tolist()))


@dataclass(frozen=True)
class Written:
    """The rows about memorization of a finished study, its page, and the folder of both."""

    rows: pd.DataFrame
    page: str
    out: Path


def written(folder: Path, leak_of: Callable[[str], float], edit: Callable[[str], str]) -> Written:
    """Finishes the small study as edited, once for all tests that read what it gives."""
    write_project(folder)
    study = folder / "configs/studies/small.yaml"
    study.write_text(edit(study.read_text()))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # Pictures are no part of this, and take seconds to draw.
        patch.setattr("studies.report.page.write_charts", lambda specs, folder: None)
        patch.setattr("studies.report.render.vega_bundle", str)
        plan = make_plan(read_study("configs/studies/small.yaml"), OUT, {})
        finish(plan, tables, leak_of)
        page = write_report(plan, OUT).read_text(encoding="utf-8")
        return Written(read_rows(OUT), page, folder / OUT)


@pytest.fixture(scope="module")
def one_seed(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return written(tmp_path_factory.mktemp("one"), lambda technique: 0.0, lambda study: study)


@pytest.fixture(scope="module")
def five_replicates(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return written(
        tmp_path_factory.mktemp("five"),
        lambda technique: 0.15 if technique == "gkd" else 0.0,
        lambda study: study.replace("[kd]", "[kd, gkd]") + "replicates: [1, 2, 3, 4, 5]\n",
    )


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The study of one seed whose audits looked for extracted records as well."""
    folder = tmp_path_factory.mktemp("extracted")
    write_project(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plan = make_plan(read_study("configs/studies/small.yaml"), OUT, {})
        finish(plan, tables, lambda technique: 0.0)
        plant_extraction(plan, tables)
        write_study_tables(plan, OUT)
        return Written(read_rows(OUT), "", folder / OUT)


def drawn_bounds(differences: np.ndarray) -> tuple[float, float]:
    """Quantiles of the mean under weights drawn uniformly from the simplex, with -1 or 1 more."""
    weights = np.random.default_rng(0).dirichlet(np.ones(len(differences) + 1), size=20_000)
    lower = np.quantile(weights @ np.append(differences, -1.0), 0.025)
    return float(lower), float(np.quantile(weights @ np.append(differences, 1.0), 0.975))


def test_the_excess_equals_a_plain_loop(one_seed: Written, planted: ModuleType) -> None:
    rows = one_seed.rows
    ours, theirs = (planted.planted_accuracy(role, 1) for role in ("student", "counterfactual"))
    student = rows[(rows.role == "student") & rows.run_b.str.startswith("counterfactual")]
    excess = student[student.metric == "token_accuracy_excess"].set_index("population")
    for population in ("private", "held_out", "never"):
        differences = ours[population] - theirs[population]
        row = excess.loc[population]
        assert row.value == pytest.approx(differences.mean())
        assert (row.lower, row.upper) == pytest.approx(drawn_bounds(differences), abs=0.002)
    assert excess.loc["private"].n_members == excess.loc["never"].n_nonmembers == planted.RECORDS
    gap = student[student.metric == "token_accuracy_gap_excess"].iloc[0]
    assert gap.value == pytest.approx(excess.loc["private"].value - excess.loc["held_out"].value)
    assert gap.lower > 0.1
    assert excess.loc["never"].lower < 0 < excess.loc["never"].upper


def test_every_curve_has_its_baselines_and_did_is_their_difference(
    one_seed: Written, planted: ModuleType
) -> None:
    rows = one_seed.rows
    curves = rows[(rows.name == "conditional") & (rows.metric == "token_accuracy")]
    drawn = set(zip(curves.role, curves.population, strict=True))
    roles = ("student", "counterfactual", "control")
    assert drawn == {(role, side) for role in roles for side in ("private", "never")}
    teacher = planted.planted_accuracy("teacher", 1)
    by = curves.set_index(["role", "population", "tau"])
    for role, side, tau in by.index:
        above = teacher[side] > tau
        row = by.loc[(role, side, tau)]
        assert row["n_members" if side == "private" else "n_nonmembers"] == above.sum()
        if above.any():
            own = planted.planted_accuracy(role, 1)[side][above]
            assert row.value == pytest.approx(own.mean())
        else:
            assert np.isnan(row.value)
    did = rows[rows.metric == "did"].set_index("tau")
    assert len(did) == 7
    expected = (
        by.loc[("student", "private", 0.5)].value
        - by.loc[("counterfactual", "private", 0.5)].value
        - by.loc[("student", "never", 0.5)].value
        + by.loc[("counterfactual", "never", 0.5)].value
    )
    assert did.loc[0.5].value == pytest.approx(expected)
    assert did.loc[0.5].lower < expected < did.loc[0.5].upper
    assert np.isnan(did.loc[0.99].value)
    assert did.loc[0.99].n_nonmembers == 0


def test_one_seed_decides_no_record(one_seed: Written) -> None:
    rows = one_seed.rows
    sets = rows[rows.name == "decomposition"]
    assert set(sets.metric) == {
        f"{name}{suffix}"
        for name in ("inherited", "teacher_only", "student_only")
        for suffix in ("", "_net")
    }
    assert sets.value.isna().all()
    assert (sets[sets.metric == "inherited_net"].n_members == 0).all()


@pytest.mark.slow
def test_three_seeds_find_the_planted_records(
    five_replicates: Written, planted: ModuleType
) -> None:
    rows = five_replicates.rows
    sets = rows[(rows.name == "decomposition") & rows.run.str.startswith("student-kd-")]
    by = sets.set_index(["metric", "population"])["value"]
    third = 1 / 3
    assert by["inherited", "private"] == pytest.approx(third)
    assert by["inherited", "never"] == 0.0
    assert by["inherited_net", "private"] == pytest.approx(third)
    assert by["teacher_only", "private"] == by["student_only", "private"] == 0.0
    assert (sets[sets.metric == "inherited_net"].n_members == planted.RECORDS).all()
    assert set(sets.student_seeds) == set(sets.teacher_seeds) == {5}


@pytest.mark.slow
def test_disagreement_over_replicates(five_replicates: Written) -> None:
    rows = five_replicates.rows
    found = rows[rows.name == "disagreement"].set_index("metric")
    assert (found.run == "study").all()
    assert (found.replicates == 5).all()
    # Both techniques were planted with the same scores: all ties, so there is no ranking.
    assert np.isnan(found.loc["kendall_tau"].value)
    assert found.loc["kendall_ceiling_memorization"].value == 1.0
    difference = found.loc["crossing_memorization"]
    assert (difference.a, difference.b) == ("gkd", "kd")
    excess = rows[rows.metric == "token_accuracy_gap_excess"]
    excess = excess[(excess.role == "student") & excess.run_b.str.startswith("counterfactual")]
    means = excess.groupby(excess.run.str.split("-").str[1]).value.mean()
    assert difference.value == pytest.approx(means["gkd"] - means["kd"])
    assert difference.lower > 0.01
    assert found.loc["crossing_membership"].value == pytest.approx(0.0, abs=0.05)
    # All replicates agree on the membership of both: there is no variance to test a crossing with.
    assert found.loc[["crossing_membership", "crossing_memorization"]].p_value.isna().all()
    assert np.isnan(found.loc["crossing_membership"].upper)


def test_one_replicate_has_no_test_and_one_technique_no_ranking(one_seed: Written) -> None:
    rows = one_seed.rows
    assert not (rows.name == "disagreement").any()
    overlap = rows[rows.name == "overlap"].set_index(["metric", "share"])["value"]
    assert overlap["top_overlap_chance", 0.1] == pytest.approx(0.1)
    assert 0.0 <= overlap["top_overlap", 0.1] <= 1.0
    assert np.isnan(overlap["top_overlap_ceiling_membership", 0.1])


def test_the_page_has_a_section_on_memorization(one_seed: Written) -> None:
    # Words of the glossary stand in marks of their own.
    text = re.sub(r"</?span[^>]*>", "", one_seed.page)
    assert 'id="memorization"' in text
    assert "no record is decided" in text
    assert "undecided (R = 1)" in text
    # What is not given says why, as its row does by a count of 0.
    reason = "(tau 0.7, 0.8, 0.9, 0.95, 0.99), where the teacher is above the cut on no never-seen"
    assert f"no value in 5 of 7 cases {reason} record." in text
    assert '"conditional":{' in text
    table = pd.read_csv(one_seed.out / "report/tables/memorization.csv")
    assert set(table["name"]) >= {"token_accuracy", "conditional", "decomposition"}
    assert set(pd.read_csv(one_seed.out / "report/tables/disagreement.csv")["name"]) == {"overlap"}


@pytest.mark.slow
def test_the_page_of_several_replicates_says_what_crosses(five_replicates: Written) -> None:
    text = five_replicates.page
    assert "no record is decided" not in text
    assert "beyond their margins (Holm over pairs, R = 5): none." in text
    assert "Not computable of 1 of 1 pairs" in text


def plant_extraction(plan: Plan, planted: ModuleType) -> None:
    """Adds exact matches, and probabilities of extraction as logarithms, to every run."""
    for cell in plan.cells:
        rows = []
        for population in ("private", "held_out", "never"):
            draw = np.random.default_rng([cell.seed, *cell.role.encode(), *population.encode()])
            hits = draw.random(planted.RECORDS) < (0.6 if cell.role == "student" else 0.0)
            for i, hit in enumerate(hits):
                shared = {
                    **{"run": cell.alias, "step": planted.STEP, "record": f"{population}-{i}"},
                    **{"population": population, "n_tokens": 20},
                }
                log_p = float(np.log(0.5)) if hit else None
                rows += [
                    {**shared, "name": "exact_match", "value": float(hit)},
                    {**shared, "name": "n_p_extraction", "value": log_p},
                ]
        folder = CellFiles(cell).folder
        write_part(folder, "memorization", planted.STEP, "extraction", rows)
        merge_parts(folder)


def test_extraction_stands_beside_its_counterfactual(extracted: Written) -> None:
    rows = extracted.rows
    values = read_table(extracted.out, "memorization").to_pandas()
    exact = values[(values.name == "exact_match") & (values.population == "private")]
    student = exact[exact.run.str.startswith("student")].set_index("record")["value"]
    found = rows[rows.metric == "exact_match_rate_excess"]
    found = found[found.run_b.str.startswith("counterfactual-") & (found.role == "student")]
    own = found.set_index("population").loc["private"]
    assert own.value == pytest.approx(student.mean())
    assert (own.lower, own.upper) == pytest.approx(drawn_bounds(student.to_numpy()), abs=0.003)
    assert set(found.population) == {"private", "held_out", "never"}
    drawn = rows[rows.metric == "extraction_probability_excess"]
    drawn = drawn[drawn.run_b.str.startswith("counterfactual-") & (drawn.role == "student")]
    assert drawn.set_index("population").loc["private"].value == pytest.approx(0.5 * student.mean())


def test_two_runs_without_a_match_keep_an_interval(extracted: Written, planted: ModuleType) -> None:
    """Rates of 0 on both sides differ by 0, within what 90 records can tell."""
    rows = extracted.rows
    teacher = rows[(rows.role == "teacher") & (rows.metric == "exact_match_rate_excess")]
    own = teacher.set_index("population").loc["private"]
    reach = 1 - 0.025 ** (1 / planted.RECORDS)
    assert own.value == 0.0
    assert (own.lower, own.upper) == pytest.approx((-reach, reach), rel=0.01)


def test_an_anchor_makes_leakage_relative(
    project: Path, plan_of: PlanOf, planted: ModuleType
) -> None:
    study = project / "configs/studies/small.yaml"
    direct = "stages:\n  direct: {role: reference, base: teacher, model: student}\n"
    study.write_text(study.read_text() + direct)
    plan = plan_of()
    finish(plan, planted, lambda technique: 0.0)
    (anchor,) = (cell for cell in plan.cells if cell.stage == "direct")
    planted.write_planted(CellFiles(anchor).folder, anchor.alias, "teacher", anchor.seed)
    write_study_tables(plan, OUT)
    rows = read_table(OUT, "results").to_pandas()
    rows = rows[(rows.metric == "relative_leakage") & (rows.name == "loss")].set_index("role")
    assert set(rows.index) == {"student", "counterfactual"}
    sides = {role: planted.planted_scores(role, anchor.seed, 0) for role in ("student", "teacher")}
    aurocs = {role: np.mean(values[0][:, None] > values[1][None]) for role, values in sides.items()}
    expected = (aurocs["student"] - 0.5) / (aurocs["teacher"] - 0.5)
    own = rows.loc["student"]
    assert own.run_b == anchor.alias
    assert own.value == pytest.approx(expected)
    assert own.lower < own.value < own.upper
    assert rows.loc["counterfactual"].value < 0
