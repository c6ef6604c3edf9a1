"""The page's section on blocks: profiles, their heat maps over techniques, and the tests."""

import json
from collections.abc import Iterator

import altair as alt
import pandas as pd

from callbacks.blocks.profile import relative_depth
from studies.report.charts import NEUTRAL, Spec, estimate_tooltips, label_colours
from studies.report.page_tables import (
    PageTable,
    TableCell,
    TableColumn,
    estimate_cell,
    p_value_cell,
)
from studies.report.study_data import StudyData

__all__ = [
    "LARGE_MARGIN",
    "block_charts",
    "block_rows",
    "block_sentences",
    "block_table",
]

# Fixed beforehand: blocks "differ by a large margin" where the interval's lower end lies above it.
LARGE_MARGIN = 0.05
_RELIABLE = 0.8
_NUMBERS = ["value", "lower", "upper", "p_value", "n_members", "n_nonmembers"]
_SIGNALS = {
    "logit_lens": "Logit lens",
    "residual_norm": "Residual update",
    "hidden_probe": "Hidden-state probe",
    "block_grad_norm": "Gradient norm",
    "block_mope": "MoPe",
    "attribution": "Attribution",
    "block_swap": "Block swap",
}


def block_rows(data: StudyData) -> pd.DataFrame:
    """Returns the block audits' rows of private records with `signal`, `depth` and `n_blocks`."""
    rows = data.rows(audit="blocks", population="private", task=None, run_b=None)
    params = [json.loads(text) for text in rows["params"]]
    n_blocks = [int(one["n_blocks"]) for one in params]
    return rows.assign(
        signal=[_signal(name, one) for name, one in zip(rows["name"], params, strict=True)],
        n_blocks=n_blocks,
        depth=[
            relative_depth(block, of) for block, of in zip(rows["block"], n_blocks, strict=True)
        ],
    )


def block_table(data: StudyData) -> PageTable:
    """Returns the AUROC of every block with interval, corrected p-value and counts."""
    rows = block_rows(data)
    rows = rows[rows["metric"] == "auroc"]
    columns = [
        TableColumn("Model"),
        TableColumn("Signal"),
        TableColumn("Block", numeric=True),
        TableColumn("AUROC", numeric=True),
        TableColumn("p, corrected over blocks", numeric=True),
    ]
    cells = [
        [
            TableCell(row["label"]),
            TableCell(row["signal"]),
            TableCell(f"{row['block']:.0f} of {row['n_blocks']}", f"{row['depth']:.6f}"),
            estimate_cell(row),
            p_value_cell(row["p_value"]),
        ]
        for _, row in rows.iterrows()
    ]
    names = ["label", "run", "signal", "name", "params", "block", "n_blocks", "depth", "metric"]
    return PageTable(columns, cells, rows[[*names, *_NUMBERS]])


def block_charts(data: StudyData) -> dict[str, Spec]:
    """Returns a heat map and the profiles of every signal, as far as measured."""
    rows = block_rows(data)
    rows = rows[(rows["metric"] == "auroc") & rows["value"].notna()]
    if not len(rows):
        return {}
    return {"block_heat": _heat_maps(rows), "block_profiles": _profiles(data, rows)}


def block_sentences(data: StudyData) -> list[str]:
    """Returns what the section says in words: its limit, the tests, what is not reliable."""
    rows = block_rows(data)
    if not len(rows):
        return []
    return [
        "A block's AUROC says how well an attacker does who reads or disturbs that block, not "
        "where a record is stored.",
        *_differences(rows),
        *_unreliable(rows),
    ]


def _signal(name: str, params: dict[str, object]) -> str:
    shown = _SIGNALS.get(name, name)
    if "measure" in params:
        shown += f", {str(params['measure']).replace('_', ' ')}"
    return f"{shown}, one sign" if params.get("antithetic") is False else shown


def _differences(rows: pd.DataFrame) -> Iterator[str]:
    """Yields the tested statement on every signal, about these weights."""
    tests = rows[(rows["metric"] == "max_minus_min") & rows["lower"].notna()]
    for signal, own in tests.groupby("signal", sort=False):
        large = own[own["lower"] > LARGE_MARGIN]
        spans = "; ".join(
            f"{row['label']} {row['value']:.2f} [{row['lower']:.2f}, {row['upper']:.2f}]"
            for _, row in own.iterrows()
        )
        yield (
            f"{signal}: blocks differ by a large margin (lower end of max − min above "
            f"{LARGE_MARGIN}) in {len(large)} of {len(own)} models, each conditional on its "
            f"weights. Max − min with its simultaneous 95% interval: {spans}."
        )


def _unreliable(rows: pd.DataFrame) -> Iterator[str]:
    found = rows[(rows["metric"] == "reliability") & ~(rows["value"] >= _RELIABLE)]
    for label, own in found.groupby("label", sort=False):
        blocks = ", ".join(f"{block:.0f}" for block in sorted(own["block"].unique()))
        yield (
            f"{label}: weight noise has a reliability over draws below {_RELIABLE} at blocks "
            f"{blocks}; these are not to be ranked."
        )


def _heat_maps(rows: pd.DataFrame) -> Spec:
    """AUROC by model and relative depth, a panel per signal; cells are as wide as blocks."""
    frame = rows.assign(
        left=rows["block"] / rows["n_blocks"], right=(rows["block"] + 1) / rows["n_blocks"]
    )
    columns = ["label", "signal", "block", "left", "right", "value", "lower", "upper"]
    chart = (
        alt.Chart(frame[[*columns, "n_members", "n_nonmembers"]])
        .mark_rect(stroke=NEUTRAL, strokeWidth=0.3)
        .encode(
            x=alt.X("left:Q", title="Relative depth", scale=alt.Scale(domain=[0, 1])),
            x2="right:Q",
            y=alt.Y("label:N", title=None, sort=list(dict.fromkeys(frame["label"]))),
            color=alt.Color(
                "value:Q",
                title="AUROC",
                scale=alt.Scale(domain=[0, 0.5, 1], range="diverging", clamp=True),
                legend=alt.Legend(orient="bottom", gradientLength=200),
            ),
            tooltip=_tooltips(),
        )
        .properties(width=300, height=24 * frame["label"].nunique())
        .facet(facet=alt.Facet("signal:N", title=None), columns=2)
    )
    return _panels(chart)


def _profiles(data: StudyData, rows: pd.DataFrame) -> Spec:
    """AUROC over relative depth with bands, a panel per signal."""
    colours = label_colours(data)
    labels = [label for label in colours if label in set(rows["label"])]
    columns = ["label", "signal", "block", "depth", "value", "lower", "upper"]
    base = alt.Chart(rows[[*columns, "n_members", "n_nonmembers"]]).encode(
        x=alt.X("depth:Q", title="Relative depth", scale=alt.Scale(domain=[0, 1])),
        color=alt.Color(
            "label:N",
            title=None,
            scale=alt.Scale(domain=labels, range=[colours[label][0] for label in labels]),
            legend=alt.Legend(orient="bottom"),
        ),
        tooltip=_tooltips(),
    )
    y = alt.Y("value:Q", title="AUROC")
    band = base.mark_area(opacity=0.15).encode(y=alt.Y("lower:Q", title="AUROC"), y2="upper:Q")
    line = base.mark_line(strokeWidth=2, point=True).encode(
        y=y,
        strokeDash=alt.StrokeDash(
            "label:N",
            scale=alt.Scale(domain=labels, range=[colours[label][1] for label in labels]),
            legend=None,
        ),
    )
    chance = base.mark_rule(strokeDash=[4, 4]).encode(
        y=alt.datum(0.5), x=alt.value(0), x2=alt.value("width"), color=alt.value(NEUTRAL)
    )
    layers = alt.layer(band, chance, line).properties(width=300, height=180)
    return _panels(layers.facet(facet=alt.Facet("signal:N", title=None), columns=2))


def _panels(chart: alt.FacetChart) -> Spec:
    """Returns a grid of panels as the page takes it: nothing fetched, the page's own theme."""
    with alt.data_transformers.enable("default", max_rows=None):
        spec: Spec = chart.to_dict()
    return {name: part for name, part in spec.items() if name not in ("$schema", "config")}


def _tooltips() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("label:N", title="Run"),
        alt.Tooltip("block:Q", title="Block"),
        *estimate_tooltips(),
    ]
