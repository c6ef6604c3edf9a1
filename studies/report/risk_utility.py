"""Risk against utility along training, as a chart of curves and a table of the areas between."""

import math
from dataclasses import asdict

import altair as alt
import pandas as pd

from studies.report.charts import NEUTRAL, Spec, chart_spec, label_colours, panels_spec
from studies.report.curve_areas import Area, curve_areas, student_curves
from studies.report.page_tables import PageTable, TableCell, TableColumn, count_cell
from studies.report.study_data import ATTACK_NAMES, StudyData

__all__ = ["risk_utility_charts", "risk_utility_tables"]

_COLUMNS = 3


def risk_utility_charts(data: StudyData) -> dict[str, Spec]:
    """Returns the students' curves, a panel per family and size where there are several."""
    colours = label_colours(data)
    rows = pd.DataFrame(
        [
            {
                "label": data.labels[one.cell.alias],
                "panel": f"{one.cell.family} → {one.cell.size}",
                "checkpoint": number,
                "nll": utility,
                "risk": risk,
            }
            for one in student_curves(data)
            for number, (utility, risk) in enumerate(one.points)
        ]
    )
    if not len(rows):
        return {}
    panels = list(dict.fromkeys(rows["panel"]))
    layer = _layer(rows, colours, f"Swap estimate ({ATTACK_NAMES[data.primary[0]]})")
    if len(panels) == 1:
        return {"risk_utility": chart_spec(layer, height=300)}
    facet = alt.Facet("panel:N", title=None, sort=panels)
    chart = layer.properties(width=280, height=220).facet(facet=facet, columns=_COLUMNS)
    return {"risk_utility": panels_spec(chart.resolve_scale(x="independent"))}


def risk_utility_tables(data: StudyData) -> dict[str, PageTable]:
    """Returns the area between the curves of every two techniques."""
    areas = curve_areas(student_curves(data))
    if not areas:
        return {}
    several = len({(one.family, one.size) for one in areas}) > 1
    columns = [
        *([TableColumn("Size")] if several else []),
        *(TableColumn(title) for title in ("Technique", "Compared with")),
        TableColumn("Mean difference of risk", numeric=True),
        TableColumn("Common range (nats)", numeric=True),
        TableColumn("Replicates", numeric=True),
        TableColumn("Read as"),
    ]
    cells = [
        [
            *([TableCell(one.size)] if several else []),
            TableCell(one.first),
            TableCell(one.second),
            _value(one),
            _width(one),
            count_cell(one.replicates),
            TableCell(_reading(one)),
        ]
        for one in areas
    ]
    frame = pd.DataFrame(map(asdict, areas)).assign(attack=data.primary[0])
    return {"risk_utility": PageTable(columns, cells, frame)}


def _layer(
    rows: pd.DataFrame, colours: dict[str, tuple[str, list[int]]], title: str
) -> alt.LayerChart:
    labels = list(dict.fromkeys(rows["label"]))
    scale = alt.Scale(zero=False, padding=20, nice=False, reverse=True)
    base = alt.Chart(rows).encode(
        x=alt.X("nll:Q", title="Nats per token, never-seen responses")
        .scale(scale)
        .axis(tickCount=5, format=".2~f"),
        y=alt.Y("risk:Q", title=title).scale(zero=False, padding=16, nice=False),
        color=alt.Color("label:N", legend=None).scale(
            domain=labels, range=[colours[label][0] for label in labels]
        ),
        tooltip=[
            alt.Tooltip("label:N", title="Run"),
            alt.Tooltip("checkpoint:Q", title="Checkpoint"),
            alt.Tooltip("nll:Q", title="Nats per token", format=".3f"),
            alt.Tooltip("risk:Q", title="Swap estimate", format=".3f"),
        ],
    )
    line = base.mark_line(strokeWidth=2).encode(order="checkpoint:Q")
    points = base.mark_point(filled=True, size=55, opacity=1)
    rule = base.mark_rule(strokeDash=[4, 4]).encode(
        y=alt.datum(0.5), x=alt.value(0), x2=alt.value("width"), color=alt.value(NEUTRAL)
    )
    return alt.LayerChart(layer=[rule, line, points])


def _value(area: Area) -> TableCell:
    if math.isnan(area.value):
        return TableCell("no common range", "")
    text = f"{area.value:+.3f}"
    if not math.isnan(area.lower):
        text += f" [{area.lower:+.3f}, {area.upper:+.3f}]"
    return TableCell(text, f"{area.value:.9g}")


def _width(area: Area) -> TableCell:
    if math.isnan(area.width):
        return TableCell("—", "")
    return TableCell(f"{area.width:.3f}", f"{area.width:.9g}")


def _reading(area: Area) -> str:
    if math.isnan(area.value):
        return "not to be compared"
    if math.isnan(area.lower):
        return f"descriptive (R = {area.replicates})"
    missing = area.planned - area.replicates
    return "interval over replicates" + (f", {missing} without a common range" if missing else "")
