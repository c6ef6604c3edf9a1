"""Comparisons of two models on the same records, against plain loops."""

from pathlib import Path
from types import ModuleType

import pytest

from audits.results import read_table
from studies.compare.tables import write_study_tables
from studies.plan.cells import Plan
from tests.studies.shown_page import pairs_won
from tests.studies.small_study import write_manifests

OUT = Path("runs/small")


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


def test_every_comparison_has_a_twin_of_subjects(finished: Plan, planted: ModuleType) -> None:
    write_study_tables(finished, OUT)
    before = read_table(OUT, "results").to_pandas().query("run_b.notna()", engine="python")
    write_manifests(finished, OUT, subject=True)
    write_study_tables(finished, OUT)
    rows = read_table(OUT, "results").to_pandas().query("run_b.notna()", engine="python")
    of_subjects = rows["params"].str.contains("subject")
    key = ["run", "run_b", "name", "metric"]
    membership = before[(before["audit"] == "membership") & before["task"].isna()]
    assert set(map(tuple, rows[of_subjects][key].to_numpy())) == set(
        map(tuple, membership[key].to_numpy())
    )
    scores = read_table(OUT, "scores").to_pandas().query("name == 'loss'")
    order = {record: n // 6 for n, record in enumerate(dict.fromkeys(scores["record"]))}
    swaps = of_subjects & (rows["metric"] == "swap_estimate") & (rows["name"] == "loss")
    assert swaps.sum() == 2
    for _, row in rows[swaps].iterrows():
        won = []
        for run in (row["run"], row["run_b"]):
            own = scores[scores["run"] == run]
            means = own.groupby([own["population"], own["record"].map(order)])["score"].mean()
            won.append(pairs_won(means["private"].to_numpy(), means["held_out"].to_numpy()))
        assert row["value"] == pytest.approx((won[0] + 1 - won[1]) / 2, abs=1e-12)
        assert row["params"] == '{"unit": "subject"}'


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
    write_manifests(finished, OUT, subject=False)
    together = widths()
    assert together.keys() == alone.keys()
    changed = sum(together[key] != alone[key] for key in alone)
    assert changed == len(alone)


def test_writing_the_tables_again_doubles_nothing(finished: Plan) -> None:
    write_study_tables(finished, OUT)
    before = (OUT / "results.parquet").read_bytes()
    write_study_tables(finished, OUT)
    assert (OUT / "results.parquet").read_bytes() == before
