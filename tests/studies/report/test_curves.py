"""Curves along training: areas against a fine sum, intervals against SciPy, rows against plans."""

import math

import numpy as np
import pytest
from scipy import stats

from studies.claims.figures import GAP_PARAMS
from studies.report.sections.risk_utility import (
    StudentCurve,
    area_between,
    curve_areas,
    risk_utility,
    student_curves,
)
from studies.report.sections.training import training, training_rows
from tests.studies.planted_report import cell, row, study

Points = list[tuple[float, float]]
# Utility comes down, goes back up, and comes down further.
WINDING: Points = [(6.0, 0.5), (5.2, 0.7), (5.5, 0.9), (4.0, 0.6)]
STRAIGHT: Points = [(5.8, 0.55), (4.4, 0.65)]


def first_reached(points: Points, utility: float) -> float:
    """Walks along the curve in small steps until it has come down to a utility."""
    for (start, risk), (end, next_risk) in zip(points, points[1:], strict=False):
        for share in np.linspace(0.0, 1.0, 2001):
            if start + share * (end - start) <= utility:
                return risk + share * (next_risk - risk)
    raise AssertionError(utility)


def test_the_area_is_the_mean_height_over_the_common_range() -> None:
    places = np.linspace(4.4, 5.8, 701)
    middles = (places[1:] + places[:-1]) / 2
    heights = [first_reached(WINDING, u) - first_reached(STRAIGHT, u) for u in middles]
    value, width = area_between(WINDING, STRAIGHT) or (math.nan, math.nan)
    assert value == pytest.approx(np.mean(heights), abs=1e-3)
    assert width == pytest.approx(1.4)
    assert area_between(STRAIGHT, WINDING) == pytest.approx((-value, width))
    assert area_between(WINDING, [(3.9, 0.5), (3.0, 0.6)]) is None


def planted_curves(replicates: int) -> list[StudentCurve]:
    """KD above SeqKD by 0.1, 0.11, 0.12 ... in replicates, and GKD far from both."""
    found = []
    for number in range(replicates):
        for technique, points in (
            ("kd", [(6.0, 0.6 + number / 100), (5.0, 0.8 + number / 100)]),
            ("seqkd", [(6.0, 0.5), (5.0, 0.7)]),
            ("gkd", [(4.0, 0.5), (3.0, 0.7)]),
        ):
            found.append(StudentCurve(cell("student", technique, replicate=number), points))
    return found


def test_intervals_are_over_five_replicates_and_none_below() -> None:
    values = 0.1 + np.arange(5) / 100
    first, apart, _ = curve_areas(planted_curves(5))
    assert (first.first, first.second, first.replicates) == ("kd", "seqkd", 5)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert first.value == pytest.approx(values.mean())
    assert (first.lower, first.upper) == pytest.approx((expected.low, expected.high))
    assert math.isnan(apart.value)
    assert (apart.second, apart.replicates, apart.planned) == ("gkd", 0, 5)
    few = curve_areas(planted_curves(4))[0]
    assert few.value == pytest.approx(values[:4].mean())
    assert math.isnan(few.lower)


def trained_study():
    """Two techniques with counterfactuals; each two validations with utility."""
    cells, rows = [cell("teacher", size="gpt2-xl")], []
    nlls = {"kd": (6.0, 5.0), "gkd": (5.5, 5.2)}
    for technique, (before, after) in nlls.items():
        for role, sign in (("student", 1), ("counterfactual", -1)):
            one = cell(role, technique)
            cells.append(one)
            for step, nll, leak in ((50, before, 0.1), (100, after, 0.2)):
                where = {"step": step}
                rows.append(row(one, "auroc", 0.5 + sign * leak, **where))
                utility = {"audit": "utility", "population": "never", "name": "perplexity"}
                rows.append(row(one, "perplexity", math.exp(nll), **where, **utility))
                rows.append(row(one, "token_accuracy_gap", leak / 10, **where) | MEMORIZED)
    rows.append(row(cells[0], "auroc", 0.9))
    return study(cells, rows)


MEMORIZED = {"audit": "memorization", "name": "token_accuracy", "params": GAP_PARAMS}


def test_a_study_s_curves_are_swap_estimates_over_nats() -> None:
    data = trained_study()
    points = {one.cell.technique: np.array(one.points) for one in student_curves(data)}
    np.testing.assert_allclose(points["kd"], [(6.0, 0.6), (5.0, 0.7)])
    np.testing.assert_allclose(points["gkd"], [(5.5, 0.6), (5.2, 0.7)])
    table = risk_utility(data).tables["risk_utility"]
    # Over 5.2 to 5.5 nats KD rises from 0.65 to 0.68 and GKD from 0.6 to 0.7.
    (only,) = [[one.text for one in cells] for cells in table.rows]
    assert only == ["kd", "gkd", "+0.015", "0.300", "1", "descriptive (R = 1)"]
    chart = risk_utility(data).charts["risk_utility"]
    (drawn,) = chart["datasets"].values()
    assert len(drawn) == 4


def test_every_validation_is_drawn_in_its_technique_s_panel() -> None:
    data = trained_study()
    rows = training_rows(data)
    # One validation is no curve: the teacher's has none.
    assert set(rows["panel"]) == {"kd", "gkd"}
    assert len(rows) == 2 * 2 * 2 * 2
    assert set(training(data).charts) == {"training_auroc", "training_gap"}
    table = training(data).tables["training"]
    first = [one.text for one in table.rows[0]]
    alias = cell("student", "kd").alias
    assert first == [alias, "AUROC", "50", "0.600 [0.580, 0.620]", "300", "310"]
    assert not training(study([cell("teacher")], [row(cell("teacher"), "auroc", 0.9)])).shown
