"""What the page's charts share: colours, tooltips, curves with bands, panels.

They are Vega-Lite specifications; the theme's colours are the page's.
"""

from collections.abc import Iterable, Mapping, Sequence

import altair as alt
import pandas as pd

from studies.report.study_data import StudyData
from studies.report.tables import ESTIMATE

Spec = dict[str, object]
Colours = Mapping[str, tuple[str, list[int]]]
"""Colour and dash of each label."""
LegendEntry = tuple[str, str, bool]
"""Label, colour, and whether its line is dashed."""

# Okabe and Ito's palette, darkened or lightened to at least 3:1 on both of the page's backgrounds.
_TECHNIQUES = (
    *("#2f7fc1", "#00946c", "#b8629b", "#b07d00"),
    *("#7a6fd0", "#3a9db8", "#8c7a3d", "#c2554d"),
)
_TEACHER = "#d55e00"
NEUTRAL = "#858c96"
_ATTACKS = ("#2f7fc1", "#d55e00", "#00946c", "#b8629b", "#b07d00", "#7a6fd0", "#3a9db8", "#858c96")
_INK = {"name": "ink", "value": "#1c2126"}
_UNDASHED = ("teacher", "student", "control", "external")
_ESTIMATE_LINES = (
    *(("value:Q", "Estimate", ".3f"), ("lower:Q", "95% from", ".3f")),
    *(("upper:Q", "95% to", ".3f"), ("n_members:Q", "Members")),
    ("n_nonmembers:Q", "Non-members"),
)


def label_colours(
    data: StudyData, labels: Mapping[str, str] | None = None
) -> dict[str, tuple[str, list[int]]]:
    """Returns each label's colour and dash: a colour per technique, dashes for counterfactuals.

    Args:
        data: The study.
        labels: Label of each run; the study's `labels` if None.
    """
    labels = data.labels if labels is None else labels
    techniques = list(dict.fromkeys(cell.technique for cell in data.cells if cell.technique))
    colours = {}
    for cell in data.cells:
        if cell.technique:
            colour = _TECHNIQUES[techniques.index(cell.technique) % len(_TECHNIQUES)]
        else:
            colour = _TEACHER if "teacher" in cell.role else NEUTRAL
        colours[labels[cell.alias]] = (colour, _dash(cell.role))
    return colours


def role_colours(roles: Mapping[str, str]) -> dict[str, tuple[str, list[int]]]:
    """Returns colour and dash of models by label, none of which has a technique: by its role."""
    return {
        label: (_TEACHER if role == "teacher" else _TECHNIQUES[0], _dash(role))
        for label, role in roles.items()
    }


def _dash(role: str) -> list[int]:
    return [1, 0] if role in _UNDASHED else [5, 4]


def legend_entries(colours: Colours, shown: Iterable[str] | None = None) -> list[LegendEntry]:
    """Returns the legend of the labels that are shown, all of them if None."""
    kept = set(colours if shown is None else shown)
    return [(name, c, dash != [1, 0]) for name, (c, dash) in colours.items() if name in kept]


def attack_colours(attacks: Sequence[str]) -> dict[str, str]:
    """Returns each attack's colour."""
    return dict(zip(attacks, _ATTACKS * (len(attacks) // len(_ATTACKS) + 1), strict=False))


def label_colour(labels: Sequence[str], colours: Colours) -> alt.Color:
    """Returns the encoding of `label` by colour."""
    scale = alt.Scale(domain=list(labels), range=[colours[label][0] for label in labels])
    return alt.Color("label:N", scale=scale, legend=None)


def label_dash(labels: Sequence[str], colours: Colours) -> alt.StrokeDash:
    """Returns the encoding of `label` by dash."""
    scale = alt.Scale(domain=list(labels), range=[colours[label][1] for label in labels])
    return alt.StrokeDash("label:N", scale=scale, legend=None)


def tooltips(*lines: tuple[str, ...], estimate: bool = True) -> list[alt.Tooltip]:
    """Returns a tooltip's lines: field, title and perhaps format; an estimate's own after them."""
    return [
        alt.Tooltip(field, title=title, **({"format": style[0]} if style else {}))
        for field, title, *style in (*lines, *(_ESTIMATE_LINES if estimate else ()))
    ]


def null_line(null: float, channel: str = "x") -> alt.Chart:
    """Returns the dashed line of a value at which nothing leaks."""
    line = alt.Chart(pd.DataFrame({"null": [null]})).mark_rule(strokeDash=[4, 4], color=NEUTRAL)
    return line.encode(**{channel: "null:Q"})


def null_rule(base: alt.Chart, null: float) -> alt.Chart:
    """Returns that line, level, as a layer of panels, which have to share their data."""
    return base.mark_rule(strokeDash=[4, 4]).encode(
        y=alt.datum(null), x=alt.value(0), x2=alt.value("width"), color=alt.value(NEUTRAL)
    )


def banded_curves(
    frame: pd.DataFrame,
    x: alt.X,
    colours: Colours,
    title: str,
    null: float,
    lines: Sequence[tuple[str, ...]],
    scale: alt.Scale,
) -> alt.LayerChart:
    """Estimates along `x`, a line per label, with their intervals as bands where `banded`.

    Args:
        frame: `label`, `banded`, the column of `x`, the estimate, and what tells panels apart.
        x: The horizontal axis.
        colours: Colour and dash of each label.
        title: What the estimates are.
        null: Their value where nothing leaks.
        lines: First lines of the tooltips.
        scale: Of the estimates.
    """
    present = set(frame["label"])
    labels = [label for label in colours if label in present]
    base = alt.Chart(frame).encode(
        x=x, color=label_colour(labels, colours), tooltip=tooltips(*lines)
    )
    band = (
        base.mark_area(opacity=0.14)
        .encode(y=alt.Y("lower:Q", title=title, scale=scale), y2="upper:Q")
        .transform_filter("datum.banded")
    )
    line = base.mark_line(strokeWidth=2, point=True).encode(
        y=alt.Y("value:Q", title=title, scale=scale), strokeDash=label_dash(labels, colours)
    )
    return alt.LayerChart(layer=[band, null_rule(base, null), line])


def point_lines(
    rows: pd.DataFrame, x: str, x_title: str, title: str, null: float | None = None
) -> Spec:
    """Returns a chart of estimates at some places, a line with intervals for every `line`.

    Args:
        rows: `label`, `line`, the column of the places, and the estimate.
        x: The column of the places.
        x_title: What they are.
        title: What the estimates are.
        null: Their value where nothing leaks.
    """
    lines = list(dict.fromkeys(rows["line"]))
    scale = alt.Scale(domain=lines, range=list(attack_colours(lines).values()))
    base = alt.Chart(rows[["label", "line", x, *ESTIMATE]]).encode(
        x=alt.X(f"{x}:O", title=x_title, axis=alt.Axis(labelAngle=0)),
        color=alt.Color(
            "line:N",
            title=None,
            scale=scale,
            legend=alt.Legend(orient="bottom", columns=2, labelLimit=230),
        ),
        tooltip=tooltips(("line:N", "Run"), (f"{x}:O", x_title)),
    )
    y = alt.Y("value:Q", title=title)
    bars = base.mark_rule(opacity=0.5).encode(y=alt.Y("lower:Q", title=title), y2="upper:Q")
    marks = [bars, base.mark_line(strokeWidth=2).encode(y=y), base.mark_point().encode(y=y)]
    if null is not None:
        marks.append(null_line(null, "y").encode(y=alt.Y("null:Q", title=title)))
    return chart_spec(alt.layer(*marks), height=300)


def chart_spec(
    chart: alt.LayerChart | alt.FacetChart, *, height: int, ink: bool = False, rows: str = ""
) -> Spec:
    """Returns a chart as the page takes it: as wide as its place, nothing fetched.

    Args:
        chart: The chart.
        height: Its height in pixels.
        ink: Whether it reads the parameter `ink`, the colour of the page's text.
        rows: Column whose values are rows of the chart, among which the height is divided.
    """
    spec = panels_spec(chart.properties(width="container", height=height), ink=ink)
    shared = {"usermeta": {"rows": rows}} if rows == "label" else {}
    return spec | shared | {"autosize": {"type": "fit-x", "contains": "padding"}}


def in_panels(
    layer: alt.LayerChart,
    column: str,
    order: Iterable[str],
    size: tuple[int, int],
    *,
    columns: int = 3,
    independent: bool = False,
) -> Spec:
    """Returns a chart as a grid of panels, one for each value of a column.

    Args:
        layer: What every panel shows of its rows.
        column: The column.
        order: Its values in the order of the panels.
        size: Width and height of a panel.
        columns: Panels beside each other.
        independent: Whether each panel has a horizontal scale of its own.
    """
    facet = alt.Facet(f"{column}:N", title=None, sort=list(dict.fromkeys(order)))
    sized = layer.properties(width=size[0], height=size[1])
    chart = sized.facet(facet=facet, columns=columns)
    return panels_spec(chart.resolve_scale(x="independent") if independent else chart)


def panels_spec(chart: alt.TopLevelMixin, *, ink: bool = False) -> Spec:
    """Returns a chart with a size of its own as the page takes it: nothing fetched.

    Args:
        chart: The chart.
        ink: Whether it reads the parameter `ink`, the colour of the page's text.
    """
    # Altair refuses more than 5,000 rows in a page, which the ROC curves of 15 runs have.
    with alt.data_transformers.enable("default", max_rows=None):
        spec: Spec = chart.to_dict()
    # The address of the schema is not fetched, but a page without network should not hold one.
    spec = {name: part for name, part in spec.items() if name not in ("$schema", "config")}
    if not ink:
        return spec
    named = spec.get("params", [])
    return spec | {"params": [*(named if isinstance(named, list) else []), _INK]}
