"""Tables of runs that repeat each other: means on the page and in LaTeX, every run in CSV."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from studies.report.block_figures import block_rows
from studies.report.exports import latex
from studies.report.parts import Legend
from studies.report.sections.blocks import block_sentences, blocks
from studies.report.sections.inherited import comparison_table
from studies.report.sections.leaks import blind_table, membership_table
from studies.report.sections.memorization import memorization
from studies.report.sections.utility import utility_table
from studies.report.study_data import StudyData
from studies.report.tables import PageTable
from tests.studies.planted_report import cell, row, study

AUROCS = np.array([0.93, 0.99, 0.90])
ACCURACIES = np.array([0.11, 0.19, 0.12])
BLOCK = {"audit": "blocks", "name": "block_mope", "params": '{"n_blocks": 2}'}
OTHER = '{"n_blocks": 2, "sigma": 0.5}'
RECORD = {"audit": "memorization", "name": "token_accuracy", "params": '{"tokens": 32}'}


@pytest.fixture
def repeated() -> StudyData:
    """A student and its counterfactual under three replicates, with every kind of row."""
    cells, rows = [], []
    for number, auroc in enumerate(AUROCS):
        student, other = (
            cell(role, "kd", replicate=number + 1) for role in ("student", "counterfactual")
        )
        cells += [student, other]
        against = {"run_b": other.alias}
        texts = {"name": "blind", "p_value": 0.4}
        rows += [row(one, "auroc", 0.5 + number / 100, **texts) for one in (student, other)]
        rows += [
            row(student, "auroc", auroc),
            row(student, "tpr_at_fpr_0.1", 0.9 if number else np.nan),
            row(student, "swap_estimate", auroc - 0.1, **against),
            row(student, "rouge_l_f1", 0.2, audit="utility", population="never"),
            row(student, "perplexity", 50.0 + number, audit="utility", population="never"),
            row(student, "token_accuracy_excess", ACCURACIES[number], **against, **RECORD),
            # The same signal with other parameters is another figure.
            row(student, "auroc", 0.1, block=0.0, **{**BLOCK, "params": OTHER}),
            row(student, "max_minus_min", 0.1 * number, **BLOCK),
            row(student, "max_minus_min_corrected", 0.05 * number, **BLOCK),
            row(student, "equal_blocks_wald", 3.0, p_value=0.2, **BLOCK),
        ]
        for tau in (0.5, 0.9):
            params = f'{{"tokens": 32, "tau": {tau}}}'
            conditional = {**RECORD, "name": "conditional", "params": params}
            rows.append(row(student, "did", ACCURACIES[number] * tau, **conditional))
        for block in (0, 1):
            value = auroc - 0.2 * block
            rows += [
                row(student, "auroc", value, block=float(block), **BLOCK),
                row(student, "reliability", 0.5 if block else 0.9, block=float(block), **BLOCK),
            ]
    return study(cells, rows)


def shown(table: PageTable) -> list[dict[str, str]]:
    titles = [column.title for column in table.columns]
    return [dict(zip(titles, (one.text for one in cells), strict=True)) for cells in table.rows]


def over(values: np.ndarray) -> str:
    """Mean and Student's t interval as the page writes them, a share's no further than 1."""
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    return f"{values.mean():.3f} [{low:.3f}, {min(high, 1.0):.3f}]"


def test_membership_is_a_mean_that_stays_a_share(repeated: StudyData) -> None:
    table = membership_table(repeated)
    (student,) = shown(table)
    assert student["AUROC"] == over(AUROCS)
    assert student["AUROC"].endswith("1.000]")
    assert (student["Model"], student["Replicates"]) == ("student-kd-gpt2-base", "3")
    # One replicate had too few records for it: the mean of the others.
    assert student["TPR at 10% FPR"] == "90.0% (R = 2)"
    assert table.frame["run"].tolist() == [f"student-kd-gpt2-base-r{r}" for r in (1, 2, 3)]
    assert student["AUROC"] in latex(table, "").replace("{", "").replace("}", "")


def test_comparisons_and_utility_are_means(repeated: StudyData) -> None:
    (swap,) = shown(comparison_table(repeated))
    assert (swap["Estimate"], swap["Compared with"]) == (
        over(AUROCS - 0.1),
        "counterfactual-kd-gpt2-base",
    )
    table = utility_table(repeated)
    utility = {one["Measure"]: one for one in shown(table)}
    low, high = stats.t.interval(0.95, 2, 51, 1 / 3**0.5)
    # A perplexity is no share: nothing ends at 1.
    assert utility["Perplexity"]["Value"] == f"51.000 [{low:.3f}, {high:.3f}]"
    assert utility["ROUGE-L F1"]["Records"] == "300"
    assert len(table.frame) == 6


def test_memorization_is_a_mean_with_its_replicates(repeated: StudyData) -> None:
    (excess, *curves) = shown(memorization(repeated).tables["memorization"])
    assert (excess["Estimate"], excess["Replicates"]) == (over(ACCURACIES), "3")
    assert [one["Estimate"] for one in curves] == [over(ACCURACIES * tau) for tau in (0.5, 0.9)]
    assert len(curves) == 2
    drawn = memorization(repeated).charts["did"]
    values = [one["value"] for part in drawn["datasets"].values() for one in part if "value" in one]
    assert values == pytest.approx([ACCURACIES.mean() * tau for tau in (0.5, 0.9)])


def test_sets_of_records_speak_of_all_replicates(repeated: StudyData) -> None:
    student, other = repeated.cells[:2]
    sets = {**RECORD, "name": "decomposition", "run_b": other.alias, "n_members": 7.0}
    data = study(list(repeated.cells), [row(student, "inherited", 0.4, **sets)])
    data = replace(data, kinds=repeated.kinds)
    (found,) = shown(memorization(data).tables["memorization"])
    assert (found["Model"], found["Replicates"]) == ("student-kd-gpt2-base", "—")
    assert found["Estimate"] == "0.400 [0.380, 0.420]"
    assert found["Records counted"].startswith("7")


def test_blocks_are_profiles_of_kinds(repeated: StudyData) -> None:
    section = blocks(repeated)
    tables = section.tables
    profile = [(one["Block"], one["AUROC"]) for one in shown(tables["blocks"])]
    assert sorted(profile) == [
        ("0 of 2", "0.100"),
        ("0 of 2", over(AUROCS)),
        ("1 of 2", over(AUROCS - 0.2)),
    ]
    (test,) = shown(tables["block_tests"])
    # 0, 0.1 and 0.2, each less 0.02: two lie above the margin of 0.05.
    assert (test["Large"], test["Less bias"]) == ("2 of 3", "0.050")
    assert test["Max − min"] == over(np.array([0.0, 0.1, 0.2]))
    assert "p (1)" not in test
    assert len(tables["block_tests"].frame) == 3
    (legend,) = [part for part in section.parts if isinstance(part, Legend)]
    assert [label for label, *_ in legend.entries] == ["student-kd-gpt2-base"]
    assert "block_profiles" in section.charts
    text = " ".join(block_sentences(repeated, block_rows(repeated)))
    assert "MoPe at block 1 of 3 of 3 models" in text
    assert "block 0" not in text


def test_runs_that_nothing_repeats_keep_their_tests(repeated: StudyData) -> None:
    alone = replace(repeated, kinds=repeated.labels)
    assert len(shown(membership_table(alone))) == 3
    assert "Replicates" not in shown(comparison_table(alone))[0]
    tests = shown(blocks(alone).tables["block_tests"])
    assert [one["Large"] for one in tests] == ["not shown", "shown", "shown"]
    assert {one["p (2)"] for one in tests} == {"0.2"}
    assert "MoPe at block 1 of student-kd-gpt2-base-r1" in " ".join(
        block_sentences(alone, block_rows(alone))
    )


def test_a_blind_baseline_names_whole_replicates(repeated: StudyData) -> None:
    names = [one["Models"] for one in shown(blind_table(repeated))]
    assert names == ["all 2 of r1", "all 2 of r2", "all 2 of r3"]
    # One of a replicate's two models was asked about other records.
    rows = repeated.results
    other = (rows["name"] == "blind") & (rows["run"] == "student-kd-gpt2-base-r1")
    partly = replace(repeated, results=rows.assign(n_members=rows["n_members"] - other))
    assert [one["Models"] for one in shown(blind_table(partly))][:2] == [
        "student-kd-gpt2-base-r1",
        "counterfactual-kd-gpt2-base-r1",
    ]
