"""Estimates with their intervals, one band per run or pair of runs, one mark per attack."""

from collections.abc import Iterable, Iterator

import altair as alt
import pandas as pd

from studies.report import charts
from studies.report.tables import ESTIMATE


def attack_entries(attacks: Iterable[str]) -> list[charts.LegendEntry]:
    """Returns the legend of the attacks that rows have."""
    colours = charts.attack_colours(list(dict.fromkeys(attacks)))
    return [(name, colour, False) for name, colour in colours.items()]


def forest(
    rows: pd.DataFrame,
    band: str,
    title: str,
    null: float,
    behind: pd.DataFrame | None = None,
    marks: str = "Attack",
) -> charts.Spec:
    """Returns the chart: the null, what lies behind the bands, intervals, estimates.

    Args:
        rows: The estimates, with `attack`.
        band: Column whose values are the bands.
        title: What the estimates are.
        null: Their value where nothing leaks.
        behind: Estimates that belong to a whole band, drawn behind its attacks.
        marks: What stands in `attack`, where it is none.
    """
    behind = rows.iloc[:0] if behind is None else behind
    attacks = list(dict.fromkeys(rows["attack"]))
    # A pair of runs takes two lines.
    labels = alt.Axis(
        grid=False, ticks=False, labelExpr="split(replace(datum.label, ' − ', '|− '), '|')"
    )
    y = alt.Y(f"{band}:N", sort=list(dict.fromkeys(rows[band])), title=None, axis=labels)
    scale = _scale(pd.concat([rows, behind]), null)
    axis = alt.Axis(tickCount=7, format=".2~f")
    value, lower, null_x = (
        alt.X(f"{column}:Q", title=title, scale=scale, axis=axis)
        for column in ("value", "lower", "null")
    )
    lines = charts.tooltips((f"{band}:N", "Run"), ("attack:N", marks))
    columns = [band, "attack", *ESTIMATE]
    base = alt.Chart(rows[columns]).encode(
        y=y,
        tooltip=lines,
        yOffset=alt.YOffset("attack:N", sort=attacks),
        color=alt.Color(
            "attack:N",
            title=None,
            scale=alt.Scale(domain=attacks, range=list(charts.attack_colours(attacks).values())),
            legend=None,
        ),
    )

    def bands() -> Iterator[alt.Chart]:
        if len(behind):
            whole = alt.Chart(behind[columns]).encode(tooltip=lines)
            yield whole.mark_rect(color=charts.NEUTRAL, opacity=0.16).encode(
                y=y, x=lower, x2="upper:Q"
            )
            yield whole.mark_rule(color=charts.NEUTRAL, strokeWidth=2).encode(
                y=y.bandPosition(0), y2=alt.Y2(band, bandPosition=1), x=value
            )

    bars = base.mark_rule(strokeWidth=2).encode(x=lower, x2="upper:Q")
    points = base.mark_point(filled=True, size=62, opacity=1).encode(x=value)
    layers = [charts.null_line(null).encode(x=null_x), *bands(), bars, points]
    height = rows[band].nunique() * (14 * len(attacks) + 14)
    return charts.chart_spec(alt.layer(*layers), height=max(90, height), rows=band)


def _scale(every: pd.DataFrame, null: float) -> alt.Scale:
    low = min(null, every["lower"].min(), every["value"].min())
    high = max(null, every["upper"].max(), every["value"].max())
    margin = 0.04 * (high - low) or 0.05
    domain = [round(low - margin, 4), round(high + margin, 4)]
    return alt.Scale(domain=domain, nice=False, zero=False)
