"""Heat maps: coloured cells with their values.

The middle of a scale is the page's own colour, light or dark; the page gives the ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import pandas as pd

from studies.report.charts import Spec, chart_spec, tooltips
from studies.report.tables import ESTIMATE

_LABELS, _CELL = 120, 44


@dataclass(frozen=True)
class Shade:
    """What the colours of a heat map mean.

    Attributes:
        title: The measure.
        cold: Value of the cold end; where it is above `warm`, high is cold.
        middle: Value without a colour.
        warm: Value of the warm end.
        format: Of the numbers in the cells, as Vega writes it.
        legend: Whether the colours are explained; of half a scale the numbers say enough.
    """

    title: str
    cold: float
    middle: float
    warm: float
    format: str = ".2f"
    legend: bool = True

    def color(self) -> alt.Color:
        """Returns the encoding of `value`."""
        domain = [self.cold, self.middle, self.warm]
        return alt.Color(
            "value:Q",
            title=self.title,
            scale=alt.Scale(domain=domain, range="diverging", clamp=True, interpolate="rgb"),
            legend=alt.Legend(orient="bottom", gradientLength=200, tickCount=5, format=".2~g")
            if self.legend
            else None,
        )

    def ink(self) -> alt.ColorValue:
        """Returns the encoding of the numbers' colour: white on strong colours."""
        share = 0.6 * abs(self.warm - self.middle)
        strong = {"test": f"abs(datum.value - {self.middle}) > {share}", "value": "#ffffff"}
        return alt.ColorValue(alt.expr("ink"), condition=strong)


AUROC_SHADE = Shade("AUROC", 0.0, 0.5, 1.0)


def heat_map(
    rows: pd.DataFrame,
    column: str,
    shade: Shade = AUROC_SHADE,
    *,
    order: Sequence[str] | None = None,
    angle: int = 0,
    title: str | None = None,
) -> Spec:
    """Returns a map of `label` by another column, as wide as its place.

    Args:
        rows: `label`, the column, and the estimate with its counts.
        column: The column.
        shade: The measure.
        order: The column's values from left to right; as they come if None.
        angle: Of their names in degrees.
        title: What they are, above them.
    """
    order = list(dict.fromkeys(rows[column])) if order is None else order
    frame = rows[["label", column, *ESTIMATE]]
    chart = heat_cells(frame, column, order, shade, angle=angle, title=title)
    height = (64 if title else 40) + 36 * rows["label"].nunique()
    spec = chart_spec(chart, height=height, ink=True, rows="label")
    # Pixels below which numbers run into each other: a smaller window scrolls.
    return spec | {"usermeta": {"rows": "label", "least": _LABELS + _CELL * len(order)}}


def heat_cells(
    frame: pd.DataFrame,
    column: str,
    order: Sequence[str],
    shade: Shade,
    *,
    angle: int = 0,
    title: str | None = None,
) -> alt.LayerChart:
    """Returns coloured cells with their values, a row per label."""
    axis = alt.Axis(
        orient="top", labelAngle=angle, labelLimit=150 if angle else 110, ticks=False, domain=False
    )
    base = alt.Chart(frame).encode(
        x=alt.X(f"{column}:N", sort=list(order), title=title, axis=axis),
        y=alt.Y(
            "label:N",
            sort=list(dict.fromkeys(frame["label"])),
            title=None,
            axis=alt.Axis(ticks=False, domain=False),
        ),
        tooltip=tooltips(("label:N", "Run"), (f"{column}:N", title or column.capitalize())),
    )
    cells = base.mark_rect(cornerRadius=3).encode(color=shade.color())
    text = base.mark_text(fontSize=12.5).encode(
        text=alt.Text("value:Q", format=shade.format), color=shade.ink()
    )
    return alt.LayerChart(layer=[cells, text])
