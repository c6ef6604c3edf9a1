"""Heat maps: of runs by attack or task, in a panel per family and size, and of sizes by technique.

The middle of a scale is the page's own colour, light or dark; the page gives the ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt
import pandas as pd

from studies.report.charts import Spec, chart_spec, estimate_tooltips, panels_spec

__all__ = ["Shade", "attack_map", "attack_panels", "size_map", "task_map"]

_ESTIMATE = ["value", "lower", "upper", "n_members", "n_nonmembers"]
_CELL_WIDTH, _CELL_HEIGHT = 35, 27
# Longer names of columns than this many letters are written aslant.
_LEVEL = 12


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


_AUROC = Shade("AUROC", 0.0, 0.5, 1.0)


def attack_map(rows: pd.DataFrame) -> Spec:
    """AUROC by run and attack."""
    return _single(rows, "attack", list(dict.fromkeys(rows["attack"])))


def task_map(rows: pd.DataFrame) -> Spec:
    """AUROC by run and task."""
    frame = rows.assign(task=rows["task"].str.replace("_", " "))
    return _single(frame, "task", sorted(frame["task"].unique()))


def attack_panels(rows: pd.DataFrame, panels: Mapping[str, Sequence[str]]) -> Spec:
    """AUROC by run and attack, a line of panels per family, a panel per size.

    Args:
        rows: `family`, `panel`, `label` (the same in every panel), `attack` and the estimate.
        panels: Panels of each family, in order.
    """
    columns = ["family", "panel", "label", "attack", *_ESTIMATE]
    attacks = list(dict.fromkeys(rows["attack"]))
    lines = []
    for family, sizes in panels.items():
        frame = rows.loc[rows["family"] == family, columns]
        layer = _cells(frame, "attack", attacks, _AUROC, angle=-40).properties(
            width=alt.Step(_CELL_WIDTH), height=alt.Step(_CELL_HEIGHT)
        )
        facet = alt.Column("panel:N", title=None, sort=list(sizes))
        lines.append(layer.facet(column=facet, spacing=12))
    return panels_spec(alt.vconcat(*lines), ink=True)


def size_map(rows: pd.DataFrame, shade: Shade) -> Spec:
    """A measure by size and technique.

    Args:
        rows: `label` (the size), `technique` and the estimate.
        shade: The measure.
    """
    order = list(dict.fromkeys(rows["technique"]))
    angle = -40 if max(map(len, order)) > _LEVEL else 0
    chart = _cells(rows[["label", "technique", *_ESTIMATE]], "technique", order, shade, angle)
    return chart_spec(chart, height=40 + 36 * rows["label"].nunique(), ink=True)


def _single(rows: pd.DataFrame, column: str, order: Sequence[str]) -> Spec:
    chart = _cells(rows[["label", column, *_ESTIMATE]], column, order, _AUROC)
    return chart_spec(chart, height=40 + 36 * rows["label"].nunique(), ink=True)


def _cells(
    frame: pd.DataFrame, column: str, order: Sequence[str], shade: Shade, angle: int = 0
) -> alt.LayerChart:
    """Coloured cells with their values, a row per label."""
    axis = alt.Axis(
        orient="top", labelAngle=angle, labelLimit=150 if angle else 110, ticks=False, domain=False
    )
    base = alt.Chart(frame).encode(
        x=alt.X(f"{column}:N", sort=list(order), title=None, axis=axis),
        y=alt.Y(
            "label:N",
            sort=list(dict.fromkeys(frame["label"])),
            title=None,
            axis=alt.Axis(ticks=False, domain=False),
        ),
        tooltip=[
            alt.Tooltip("label:N", title="Run"),
            alt.Tooltip(f"{column}:N", title=column.capitalize()),
            *estimate_tooltips(),
        ],
    )
    cells = base.mark_rect(cornerRadius=3).encode(color=shade.color())
    text = base.mark_text(fontSize=12.5).encode(
        text=alt.Text("value:Q", format=shade.format), color=shade.ink()
    )
    return alt.LayerChart(layer=[cells, text])
