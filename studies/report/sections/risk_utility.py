"""Risk at equal utility along training: students' curves, and the area between two techniques'.

A curve is a student's swap estimate over its checkpoints against the negative log-likelihood of
responses that no run trains on, read where it first comes down to a utility, as the claims read it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, pairwise

import altair as alt
import numpy as np
import pandas as pd

from audits.statistics import replicate_mean
from common.prose import prose
from studies.claims.matching import Curve, membership_curve, risk_at
from studies.claims.verdict import FEWEST_REPLICATES
from studies.plan.cells import Cell
from studies.report import charts, tables
from studies.report.parts import Chart, Legend, Part, Text, section
from studies.report.study_data import StudyData

_SAYS = prose(__file__)


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

    @property
    def reading(self) -> str:
        """What the figure may be read as."""
        if math.isnan(self.value):
            return "not to be compared"
        if math.isnan(self.lower):
            return f"descriptive (R = {self.replicates})"
        missing = self.planned - self.replicates
        left_out = f", {missing} without a common range" if missing else ""
        return f"interval over replicates{left_out}"


@section("risk_utility", "Risk at equal utility, along training")
def risk_utility(data: StudyData) -> Iterator[Part]:
    """Yields the curves, and the area between those of every two techniques."""
    curves = student_curves(data)
    if curves:
        colours = charts.label_colours(data)
        labels = [data.labels[curve.cell.alias] for curve in curves]
        yield Legend("Runs", charts.legend_entries(colours, labels))
        caption = _SAYS["curves"].format(data.primary_name)
        yield Chart("risk_utility", _chart(data, curves, colours), caption)
    areas = curve_areas(curves)
    if areas:
        yield from (_table(data, areas), Text(_SAYS["areas"].format(data.primary_name), "caption"))


def student_curves(data: StudyData) -> list[StudentCurve]:
    """Returns the curve of each finished student with a counterfactual, utility and checkpoints."""
    curves = []
    for cell in data.figures.students:
        pair = data.figures.pair(cell)
        points = [] if isinstance(pair, str) else membership_curve(data.figures, *pair)
        if len(points) > 1:
            curves.append(StudentCurve(cell, points))
    return curves


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


def _known(risk: float | None) -> float:
    if risk is None:
        raise ValueError("a curve has no risk within its own range")
    return risk


def curve_areas(curves: Sequence[StudentCurve]) -> list[Area]:
    """Returns the area of every pair of techniques, for each family and size."""
    strata = dict.fromkeys((curve.cell.family, curve.cell.size) for curve in curves)
    return [area for family, size in strata for area in _of_stratum(curves, family, size)]


def _of_stratum(curves: Sequence[StudentCurve], family: str, size: str) -> Iterator[Area]:
    points: dict[str, dict[tuple[int, int], Curve]] = {}
    for curve in curves:
        if (curve.cell.family, curve.cell.size) == (family, size):
            key = (curve.cell.replicate, curve.cell.seed)
            points.setdefault(str(curve.cell.technique), {})[key] = curve.points
    for first, second in combinations(points, 2):
        both = [key for key in points[first] if key in points[second]]
        areas: dict[int, list[tuple[float, float]]] = {}
        for key in both:
            area = area_between(points[first][key], points[second][key])
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


def _table(data: StudyData, areas: Sequence[Area]) -> tables.PageTable:
    frame = pd.DataFrame(map(asdict, areas)).assign(attack=data.primary[0])
    shown = frame.assign(reading=[area.reading for area in areas])

    def difference(row: pd.Series) -> tables.TableCell:
        if pd.isna(row["value"]):
            return tables.TableCell("no common range", "")
        return tables.estimate_cell(row, style="+.3f")

    size = {"size": "Size"} if len(frame[["family", "size"]].drop_duplicates()) > 1 else {}
    columns = [
        *tables.words(data.notes, **size, first="Technique", second="Compared with"),
        tables.Column("Mean difference of risk", difference),
        tables.number("Common range (nats)", "width", ".3f"),
        tables.number("Replicates", "replicates"),
        *tables.words(reading="Read as"),
    ]
    return tables.table(
        "risk_utility", "Area between two techniques’ curves", columns, shown, frame
    )


def _chart(data: StudyData, curves: Sequence[StudentCurve], colours: charts.Colours) -> charts.Spec:
    """The curves, a panel per family and size where there are several."""
    rows = pd.DataFrame(
        [
            {
                **{"label": data.labels[curve.cell.alias], "checkpoint": checkpoint},
                **{"panel": f"{curve.cell.family} → {curve.cell.size}", "nll": nll, "risk": risk},
            }
            for curve in curves
            for checkpoint, (nll, risk) in enumerate(curve.points)
        ]
    )
    scale = alt.Scale(zero=False, padding=20, nice=False, reverse=True)
    base = alt.Chart(rows).encode(
        x=alt.X("nll:Q", title="Nats per token, never-seen responses")
        .scale(scale)
        .axis(tickCount=5, format=".2~f"),
        y=alt.Y("risk:Q", title=f"Swap estimate ({data.primary_name})").scale(
            zero=False, padding=16, nice=False
        ),
        color=charts.label_colour(list(dict.fromkeys(rows["label"])), colours),
        tooltip=charts.tooltips(
            *(("label:N", "Run"), ("checkpoint:Q", "Checkpoint")),
            *(("nll:Q", "Nats per token", ".3f"), ("risk:Q", "Swap estimate", ".3f")),
            estimate=False,
        ),
    )
    line = base.mark_line(strokeWidth=2).encode(order="checkpoint:Q")
    points = base.mark_point(filled=True, size=55, opacity=1)
    layer = alt.LayerChart(layer=[charts.null_rule(base, 0.5), line, points])
    if rows["panel"].nunique() == 1:
        return charts.chart_spec(layer, height=300)
    return charts.in_panels(layer, "panel", rows["panel"], (280, 220), independent=True)
