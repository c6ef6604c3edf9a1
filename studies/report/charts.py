"""The page's charts as Vega-Lite specifications; the theme's colours are the page's."""

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from studies.report.study_data import StudyData

__all__ = [
    "NEUTRAL",
    "attack_colours",
    "chart_spec",
    "estimate_tooltips",
    "label_colours",
    "panels_spec",
    "roc_chart",
    "utility_chart",
]

Spec = dict[str, object]

# Okabe and Ito's palette, darkened or lightened to at least 3:1 on both of the page's backgrounds.
_TECHNIQUES = (
    "#2f7fc1",
    "#00946c",
    "#b8629b",
    "#b07d00",
    "#7a6fd0",
    "#3a9db8",
    "#8c7a3d",
    "#c2554d",
)
_TEACHER = "#d55e00"
NEUTRAL = "#858c96"
_ATTACKS = ("#2f7fc1", "#d55e00", "#00946c", "#b8629b", "#b07d00", "#7a6fd0", "#3a9db8", "#858c96")
_INK = {"name": "ink", "value": "#1c2126"}
_PRIVATE_ROLES = ("teacher", "student")


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
        dash = [1, 0] if cell.role in (*_PRIVATE_ROLES, "control") else [5, 4]
        colours[labels[cell.alias]] = (colour, dash)
    return colours


def roc_chart(rows: pd.DataFrame, colours: dict[str, tuple[str, list[int]]], *, log: bool) -> Spec:
    """ROC curves of one attack (the parameter `attack`, set by the page), linear or log-log."""
    shown = rows[(rows["fpr"] > 0) & (rows["tpr"] > 0)] if log else rows
    low = float(shown[["fpr", "tpr"]].min().min()) if log else 0.0
    scale = alt.Scale(type="log", domain=[low, 1]) if log else alt.Scale(domain=[0, 1])
    axis = alt.Axis(format="~%", tickCount=4 if log else 5)
    labels = [label for label in colours if label in set(rows["label"])]
    # The page has one legend for both panels, beside the choice of the attack.
    attack = alt.param(name="attack", value=str(rows["attack"].iloc[0]))
    lines = (
        alt.Chart(shown)
        .mark_line(interpolate="step-after", strokeWidth=2, clip=True)
        .encode(
            x=alt.X("fpr:Q", title="False positive rate", scale=scale, axis=axis),
            y=alt.Y("tpr:Q", title="True positive rate", scale=scale, axis=axis),
            color=alt.Color(
                "label:N",
                scale=alt.Scale(domain=labels, range=[colours[label][0] for label in labels]),
                legend=None,
            ),
            strokeDash=alt.StrokeDash(
                "label:N",
                scale=alt.Scale(domain=labels, range=[colours[label][1] for label in labels]),
                legend=None,
            ),
            order="fpr:Q",
            tooltip=[
                alt.Tooltip("label:N", title="Run"),
                alt.Tooltip("fpr:Q", title="FPR", format=".2%"),
                alt.Tooltip("tpr:Q", title="TPR", format=".2%"),
                alt.Tooltip("n_members:Q", title="Members"),
                alt.Tooltip("n_nonmembers:Q", title="Non-members"),
            ],
        )
        .transform_filter("datum.attack === attack")
    )
    points = pd.DataFrame({"fpr": [low, 1.0], "tpr": [low, 1.0]})
    chance = (
        alt.Chart(points)
        .mark_line(strokeDash=[4, 4], strokeWidth=1, color=NEUTRAL)
        .encode(x="fpr:Q", y="tpr:Q")
    )
    return chart_spec(alt.layer(chance, lines).add_params(attack), height=340)


def utility_chart(
    rows: pd.DataFrame, colours: dict[str, tuple[str, list[int]]], title: str, *, log: bool
) -> Spec:
    """AUROC with interval against a utility measure, one mark per run."""
    labels = list(dict.fromkeys(rows["label"]))
    frame = rows[
        ["label", "utility", "utility_n", "value", "lower", "upper", "n_members", "n_nonmembers"]
    ]
    base = alt.Chart(frame).encode(
        x=alt.X(
            "utility:Q",
            title=title,
            scale=alt.Scale(type="log", padding=24, nice=False)
            if log
            else alt.Scale(zero=False, padding=24, nice=False),
            axis=alt.Axis(tickCount=5, format="~s" if log else ".2~f"),
        ),
        color=alt.Color(
            "label:N",
            scale=alt.Scale(domain=labels, range=[colours[label][0] for label in labels]),
            legend=None,
        ),
        tooltip=[
            alt.Tooltip("label:N", title="Run"),
            alt.Tooltip("utility:Q", title=title, format=".4~g"),
            alt.Tooltip("utility_n:Q", title="Records (utility)"),
            *estimate_tooltips(),
        ],
    )
    y = alt.Y("value:Q", title="AUROC", scale=alt.Scale(zero=False, padding=16, nice=False))
    bars = base.mark_rule(strokeWidth=2, opacity=0.75).encode(
        y=alt.Y("lower:Q", title="AUROC"), y2="upper:Q"
    )
    points = base.mark_point(size=90, opacity=1, strokeWidth=2.5).encode(
        y=y,
        shape=alt.Shape(
            "label:N",
            scale=alt.Scale(domain=labels, range=[_shape(colours[label][1]) for label in labels]),
            legend=None,
        ),
    )
    chance = (
        alt.Chart(pd.DataFrame({"null": [0.5]}))
        .mark_rule(strokeDash=[4, 4], color=NEUTRAL)
        .encode(y="null:Q")
    )
    return chart_spec(alt.layer(chance, bars, points), height=300)


def _shape(dash: list[int]) -> str:
    return "circle" if dash == [1, 0] else "diamond"


def attack_colours(attacks: Sequence[str]) -> dict[str, str]:
    """Returns each attack's colour."""
    return dict(zip(attacks, _ATTACKS * (len(attacks) // len(_ATTACKS) + 1), strict=False))


def estimate_tooltips() -> list[alt.Tooltip]:
    """Returns an estimate's lines of a tooltip: value, interval and counts."""
    return [
        alt.Tooltip("value:Q", title="Estimate", format=".3f"),
        alt.Tooltip("lower:Q", title="95% from", format=".3f"),
        alt.Tooltip("upper:Q", title="95% to", format=".3f"),
        alt.Tooltip("n_members:Q", title="Members"),
        alt.Tooltip("n_nonmembers:Q", title="Non-members"),
    ]


def chart_spec(chart: alt.LayerChart | alt.FacetChart, *, height: int, ink: bool = False) -> Spec:
    """Returns a chart as the page takes it: as wide as its place, nothing fetched."""
    spec = _plain(chart.properties(width="container", height=height), ink)
    return spec | {"autosize": {"type": "fit-x", "contains": "padding"}}


def panels_spec(chart: alt.FacetChart | alt.VConcatChart, *, ink: bool = False) -> Spec:
    """Returns panels of a fixed size as the page takes them: nothing fetched."""
    return _plain(chart, ink)


def _plain(chart: alt.TopLevelMixin, ink: bool) -> Spec:
    # Altair refuses more than 5,000 rows in a page, which the ROC curves of 15 runs have.
    with alt.data_transformers.enable("default", max_rows=None):
        spec: Spec = chart.to_dict()
    # The address of the schema is not fetched, but a page without network should not hold one.
    spec = {name: part for name, part in spec.items() if name not in ("$schema", "config")}
    if not ink:
        return spec
    # The page gives it the colour of its text, light or dark.
    named = spec.get("params", [])
    return spec | {"params": [*(named if isinstance(named, list) else []), _INK]}
