"""What a page shows of runs that repeat each other: means with intervals over replicates."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_curve

from studies.compare.comparisons import AttackScores
from studies.report.answer import study_answer
from studies.report.controls import control_notices
from studies.report.over_replicates import figure_of, over_replicates
from studies.report.parts import Text
from studies.report.sections.roc import mean_roc, roc_rows
from studies.report.sections.sure import sure
from studies.report.sections.utility import mean_utility
from studies.report.study_data import StudyData
from tests.studies.planted_report import cell, row, study

AUROCS = {1: 0.81, 2: 0.74, 3: 0.86}


@pytest.fixture
def repeated() -> StudyData:
    """A student, its counterfactual and a control under three replicates."""
    cells, rows = [], []
    for replicate, value in AUROCS.items():
        student, other, control = (
            cell(role, technique, replicate=replicate)
            for role, technique in (
                ("student", "kd"),
                ("counterfactual", "kd"),
                ("control", None),
            )
        )
        cells += [student, other, control]
        rows += [
            row(student, "auroc", value),
            row(control, "auroc", 0.5 + (value - 0.8) / 4),
            row(student, "swap_estimate", value - 0.05, run_b=other.alias),
        ]
    return study(cells, rows)


def test_rows_of_a_kind_become_their_mean(repeated: StudyData) -> None:
    rows = over_replicates(repeated, repeated.auroc_rows(), ["attack"])
    student = rows.set_index("label").loc["student-kd-gpt2-base"]
    values = np.array(list(AUROCS.values()))
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert student[["value", "lower", "upper"]].tolist() == pytest.approx(
        [values.mean(), low, high]
    )
    assert (student["attack"], student["replicates"]) == ("loss", 3)
    assert len(rows) == 2


def test_of_bounds_over_replicates_the_least_is_shown() -> None:
    numbers = {"value": [0.8, 0.3, 0.5], "lower": [0.8, 0.3, 0.5], "upper": np.nan}
    counts = {"n_members": 90, "n_nonmembers": 90, "metric": "epsilon_lower"}
    figure = figure_of(pd.DataFrame({**numbers, **counts, "replicate": [1, 2, 3]}))
    assert (figure["value"], figure["replicates"]) == (0.3, 3)
    assert np.isnan([figure["lower"], figure["upper"]]).all()


@pytest.mark.parametrize(("metric", "low"), [("exact_match_rate_excess", -1.0), ("auroc", 0.0)])
def test_means_end_where_their_range_does(metric: str, low: float) -> None:
    """Two replicates of 0.1 and 0.9 have a t interval from -4.6 to 5.6."""
    numbers = {"value": [0.1, 0.9], "lower": [0.0, 0.8], "upper": [0.2, 1.0]}
    rows = pd.DataFrame(
        {**numbers, "n_members": 50, "n_nonmembers": 50, "replicate": [1, 2], "metric": metric}
    )
    found = figure_of(rows)
    assert (found["value"], found["lower"], found["upper"]) == (0.5, low, 1.0)


def test_runs_that_nothing_repeats_stay_as_they_are(repeated: StudyData) -> None:
    alone = replace(repeated, kinds=repeated.labels)
    rows = over_replicates(alone, alone.auroc_rows(), ["attack"])
    pd.testing.assert_frame_equal(rows.drop(columns="replicates"), alone.auroc_rows())


def test_the_page_says_what_its_intervals_are_over(repeated: StudyData) -> None:
    said = sure(repeated).parts[0]
    assert isinstance(said, Text)
    assert "means over 3 replicates" in said.text


def test_a_mean_curve_is_the_mean_of_scikit_learns() -> None:
    draw = np.random.default_rng(0)
    sides = [(draw.normal(shift, 1, 90), draw.normal(0, 1, 80)) for shift in (0.5, 1.0, 2.0)]
    found = mean_roc(sides)
    expected = np.zeros(len(found))
    for members, nonmembers in sides:
        labels = np.r_[np.ones(90), np.zeros(80)]
        fpr, tpr, _ = roc_curve(labels, np.r_[members, nonmembers], drop_intermediate=False)
        expected += [tpr[fpr <= wanted + 1e-12].max() / 3 for wanted in found["fpr"]]
    assert found["tpr"].to_numpy() == pytest.approx(expected)
    assert (found["fpr"].iloc[0], found["fpr"].iloc[-1]) == (0, 1)


def with_scores(data: StudyData, shift: float, records: int) -> StudyData:
    """The study with normal scores of its controls, whose private records lie so much higher."""
    draw = np.random.default_rng(1)
    scores = {
        one.alias: {
            ("loss", "{}"): AttackScores(
                pd.Series(draw.normal(shift, 1, records)), pd.Series(draw.normal(0, 1, records))
            )
        }
        for one in data.cells
        if one.role == "control"
    }
    return replace(data, scores=scores)


def test_a_curve_per_kind(repeated: StudyData) -> None:
    data = with_scores(repeated, 0.0, 50)
    curves = roc_rows(data)
    assert set(curves["label"]) == {"control-gpt2-base"}
    sides = [
        (own["loss", "{}"].members.to_numpy(), own["loss", "{}"].nonmembers.to_numpy())
        for own in data.scores.values()
    ]
    assert curves["tpr"].to_numpy() == pytest.approx(mean_roc(sides)["tpr"].to_numpy(), abs=1e-5)


def test_utility_is_averaged_by_replicate_too(repeated: StudyData) -> None:
    """The first replicate has a second seed, which must not count twice."""
    students = [one for one in repeated.cells if one.role == "student"]
    second = replace(students[0], id="more", alias="more")
    runs = [*students, second]
    named = {one.alias: "student" for one in runs}
    data = replace(repeated, cells=tuple(runs), kinds=named, labels={one: one for one in named})
    rows = pd.DataFrame(
        {
            "run": [one.alias for one in runs],
            "measure": "perplexity",
            "value": [0.8, 0.7, 0.6, 0.9],
            "utility": [0.1, 0.2, 0.3, 0.5],
            "utility_n": [60, 50, 40, 60],
            **dict.fromkeys(("lower", "upper", "n_members", "n_nonmembers"), 1.0),
        }
    )
    [found] = mean_utility(data, rows).to_dict("records")
    assert found["value"] == pytest.approx((0.85 + 0.7 + 0.6) / 3)
    assert found["utility"] == pytest.approx((0.3 + 0.2 + 0.3) / 3)
    assert found["utility_n"] == 40


def test_seeds_of_one_replicate_are_no_replicates(repeated: StudyData) -> None:
    cells = tuple(replace(one, replicate=1) for one in repeated.cells)
    data = with_scores(replace(repeated, cells=cells), 0.0, 40)
    found = list(control_notices(data))
    assert [one.title.split(":")[0] for one in found] == [
        f"control-gpt2-base-r{number}" for number in AUROCS
    ]
    assert all("n = 40 + 40" in one.text for one in found)
    figures = [one.membership.figure for one in study_answer(data).models if one.membership]
    assert figures
    assert all(one.lower is None for one in figures)


@pytest.mark.parametrize(
    ("shift", "records", "level"), [(0.0, 2000, "good"), (0.0, 40, "note"), (1.0, 2000, "alert")]
)
def test_controls_are_judged_over_their_replicates(
    repeated: StudyData, shift: float, records: int, level: str
) -> None:
    (found,) = control_notices(with_scores(repeated, shift, records))
    assert found.level == level
    assert "R = 3 replicates" in found.text
    assert found.title.startswith("control-gpt2-base")
