"""Risk at equal utility along training: area between two techniques' curves (corrections, item 12).

A curve is a student's swap estimate over its checkpoints against the negative log-likelihood of
responses that no run trains on, read where it first comes down to a utility, as the claims read it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from audits.statistics import replicate_mean
from studies.claims.figures import StudyFigures
from studies.claims.matching import Curve, membership_curve, risk_at
from studies.claims.verdict import FEWEST_REPLICATES
from studies.plan.cells import Cell
from studies.report.study_data import StudyData

__all__ = ["Area", "StudentCurve", "area_between", "curve_areas", "student_curves"]


@dataclass(frozen=True)
class StudentCurve:
    """A student's risk over utility.

    Attributes:
        cell: The student.
        points: Utility in nats and swap estimate, in the order of training.
    """

    cell: Cell
    points: Curve


@dataclass(frozen=True)
class Area:
    """Mean height of one technique's curve above another's, for one family and size.

    Attributes:
        value: Mean over replicates, in AUROC; NaN where no replicate has a common range.
        lower: Lower end of the 95% interval over replicates; NaN below five of them, and where they
            all agree.
        upper: Its upper end.
        width: Mean width of the common range in nats.
        replicates: Replicates that have a common range.
        planned: Replicates that have both curves.
    """

    family: str
    size: str
    first: str
    second: str
    value: float
    lower: float
    upper: float
    width: float
    replicates: int
    planned: int


def student_curves(data: StudyData) -> list[StudentCurve]:
    """Returns the curve of each finished student with a counterfactual, utility and checkpoints."""
    figures = StudyFigures(data.plan, data.states, data.history)
    found = []
    for cell in figures.students:
        pair = figures.pair(cell)
        points = [] if isinstance(pair, str) else membership_curve(figures, *pair)
        if len(points) > 1:
            found.append(StudentCurve(cell, points))
    return found


def area_between(first: Curve, second: Curve) -> tuple[float, float] | None:
    """Returns the mean height of the first curve above the second over their common utilities.

    Args:
        first: Utility in nats and risk, in the order of training.
        second: The same of the other student.

    Returns:
        Signed area divided by the width of the common range, and that width in nats; None where the
        ranges do not overlap.

    >>> area_between([(6.0, 0.5), (4.0, 1.0)], [(6.0, 0.5), (5.0, 0.5)])
    (0.125, 1.0)
    >>> area_between([(6.0, 0.5), (5.5, 0.6)], [(5.0, 0.5), (4.0, 0.6)])
    """
    high = min(first[0][0], second[0][0])
    low = max(min(utility for utility, _ in curve) for curve in (first, second))
    if low >= high:
        return None
    inner = {utility for utility, _ in (*first, *second) if low < utility < high}
    area = 0.0
    for left, right in pairwise([low, *sorted(inner), high]):
        # Both curves are straight between neighbouring checkpoints, so that the middle is the mean.
        risks = [risk_at(curve, (left + right) / 2.0) for curve in (first, second)]
        area += (right - left) * (_known(risks[0]) - _known(risks[1]))
    return area / (high - low), high - low


def curve_areas(curves: list[StudentCurve]) -> list[Area]:
    """Returns the area of every pair of techniques, for each family and size."""
    strata = dict.fromkeys((one.cell.family, one.cell.size) for one in curves)
    return [area for family, size in strata for area in _of_stratum(curves, family, size)]


def _of_stratum(curves: list[StudentCurve], family: str, size: str) -> Iterator[Area]:
    found: dict[str, dict[tuple[int, int], Curve]] = {}
    for one in curves:
        if (one.cell.family, one.cell.size) == (family, size):
            key = (one.cell.replicate, one.cell.seed)
            found.setdefault(str(one.cell.technique), {})[key] = one.points
    for first, second in combinations(found, 2):
        both = [key for key in found[first] if key in found[second]]
        areas: dict[int, list[tuple[float, float]]] = {}
        for key in both:
            area = area_between(found[first][key], found[second][key])
            if area is not None:
                areas.setdefault(key[0], []).append(area)
        # Student seeds of one replicate share its split and teacher: they count as one.
        means = [np.mean(listed, axis=0) for listed in areas.values()]
        value, lower, upper = _interval([float(mean[0]) for mean in means])
        width = float(np.mean([mean[1] for mean in means])) if means else math.nan
        planned = len({replicate for replicate, _ in both})
        yield Area(family, size, first, second, value, lower, upper, width, len(means), planned)


def _interval(values: list[float]) -> tuple[float, float, float]:
    if len(values) < FEWEST_REPLICATES:
        return float(np.mean(values)) if values else math.nan, math.nan, math.nan
    mean = replicate_mean(values)
    ends = (mean.lower, mean.upper) if mean.has_interval else (math.nan, math.nan)
    return mean.value, *ends


def _known(risk: float | None) -> float:
    if risk is None:
        raise ValueError("a curve has no risk within its own range")
    return risk
