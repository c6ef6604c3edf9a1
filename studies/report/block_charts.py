"""The charts of the section on blocks, a panel per signal, blocks laid at their relative depth."""

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from studies.report.charts import NEUTRAL, Spec, estimate_tooltips

__all__ = ["heat_maps", "probe_differences", "profiles"]

Colours = Mapping[str, tuple[str, list[int]]]
_COLUMNS = 3
_ESTIMATE = ["value", "lower", "upper", "n_members", "n_nonmembers"]


def heat_maps(rows: pd.DataFrame, signals: Sequence[str]) -> Spec:
    """AUROC by model and relative depth; cells are as wide as blocks.

    Args:
        rows: With `label`, `signal`, `block`, `n_blocks` and the estimate.
        signals: Order of the panels.
    """
    frame = rows.assign(
        left=rows["block"] / rows["n_blocks"], right=(rows["block"] + 1) / rows["n_blocks"]
    )
    chart = (
        alt.Chart(frame[["label", "signal", "block", "left", "right", *_ESTIMATE]])
        .mark_rect(stroke=NEUTRAL, strokeWidth=0.3)
        .encode(
            x=_depth("left"),
            x2="right:Q",
            y=alt.Y("label:N", title=None, sort=list(dict.fromkeys(frame["label"]))),
            color=alt.Color(
                "value:Q",
                title="AUROC",
                # The range is the page's: its middle is the paper's colour, light or dark.
                scale=alt.Scale(
                    domain=[0, 0.5, 1], range="diverging", clamp=True, interpolate="rgb"
                ),
                legend=alt.Legend(
                    orient="bottom",
                    gradientLength=200,
                    values=[0, 0.25, 0.5, 0.75, 1],
                    format=".2~f",
                ),
            ),
            tooltip=_tooltips(),
        )
        .properties(width=230, height=24 * frame["label"].nunique())
    )
    return _panels(chart, "signal", signals)


def profiles(rows: pd.DataFrame, signals: Sequence[str], colours: Colours) -> Spec:
    """AUROC over relative depth; teachers and students with their intervals as bands.

    Args:
        rows: With `label`, `role`, `signal`, `block`, `depth` and the estimate.
        signals: Order of the panels.
        colours: Colour and dash of each label.
    """
    # Counterfactuals and controls repeat every band; theirs are in the tooltip and the table.
    frame = rows.assign(banded=rows["role"].isin(("teacher", "student")))
    columns = ["label", "signal", "block", "depth", "banded", *_ESTIMATE]
    return _panels(_over_depth(frame[columns], colours, "AUROC", 0.5, (0, 1)), "signal", signals)


def probe_differences(rows: pd.DataFrame, compared: Sequence[str], colours: Colours) -> Spec:
    """A probe's AUROC in one model minus that in another over relative depth, with bands.

    Args:
        rows: With `label`, `compared`, `block`, `depth` and the estimate.
        compared: Order of the panels: what the other model is.
        colours: Colour and dash of each label.
    """
    frame = rows.assign(banded=True)
    columns = ["label", "compared", "block", "depth", "banded", *_ESTIMATE]
    chart = _over_depth(frame[columns], colours, "Difference of AUROC", 0.0, None)
    return _panels(chart, "compared", compared)


def _over_depth(
    frame: pd.DataFrame,
    colours: Colours,
    title: str,
    null: float,
    domain: tuple[float, float] | None,
) -> alt.LayerChart:
    labels = [label for label in colours if label in set(frame["label"])]
    base = alt.Chart(frame).encode(
        x=_depth("depth"),
        color=alt.Color(
            "label:N",
            scale=alt.Scale(domain=labels, range=[colours[label][0] for label in labels]),
            legend=None,
        ),
        tooltip=_tooltips(),
    )
    scale = alt.Scale() if domain is None else alt.Scale(domain=list(domain))
    band = (
        base.mark_area(opacity=0.14)
        .encode(y=alt.Y("lower:Q", title=title, scale=scale), y2="upper:Q")
        .transform_filter("datum.banded")
    )
    line = base.mark_line(strokeWidth=2, point=True).encode(
        y=alt.Y("value:Q", title=title, scale=scale),
        strokeDash=alt.StrokeDash(
            "label:N",
            scale=alt.Scale(domain=labels, range=[colours[label][1] for label in labels]),
            legend=None,
        ),
    )
    rule = base.mark_rule(strokeDash=[4, 4]).encode(
        y=alt.datum(null), x=alt.value(0), x2=alt.value("width"), color=alt.value(NEUTRAL)
    )
    return alt.LayerChart(layer=[band, rule, line]).properties(width=285, height=180)


def _depth(field: str) -> alt.X:
    axis = alt.Axis(values=[0, 0.25, 0.5, 0.75, 1], format=".2~f", grid=False)
    scale = alt.Scale(domain=[0, 1])
    return alt.X(f"{field}:Q", title="Relative depth, input to head", scale=scale, axis=axis)


def _panels(chart: alt.Chart | alt.LayerChart, field: str, order: Sequence[str]) -> Spec:
    """Returns a grid of panels as the page takes it: nothing fetched, the page's own theme."""
    panels = alt.Facet(f"{field}:N", title=None, sort=list(order))
    with alt.data_transformers.enable("default", max_rows=None):
        spec: Spec = chart.facet(facet=panels, columns=_COLUMNS).to_dict()
    return {name: part for name, part in spec.items() if name not in ("$schema", "config")}


def _tooltips() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("label:N", title="Run"),
        alt.Tooltip("block:Q", title="Block"),
        *estimate_tooltips(),
    ]
