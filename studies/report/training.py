"""The page's section on training: how leakage and memorization grow, validation by validation."""

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from studies.claims.figures import GAP_PARAMS
from studies.report.charts import NEUTRAL, Spec, estimate_tooltips, label_colours, panels_spec
from studies.report.page_tables import PageTable, TableCell, TableColumn, count_cell, estimate_cell
from studies.report.sizes import family_sizes
from studies.report.study_data import METRIC_NAMES, StudyData

__all__ = ["training_charts", "training_rows", "training_tables"]

_GAP = "token_accuracy_gap"
_MEASURES = {"auroc": METRIC_NAMES["auroc"], _GAP: "Gap in token accuracy, private − held out"}
# Chart, metric, title of its axis, its value where nothing leaks.
_CHARTS = (("training_auroc", "auroc", "AUROC", 0.5), ("training_gap", _GAP, "Gap", 0.0))
_ESTIMATE = ["value", "lower", "upper", "n_members", "n_nonmembers"]
_TEACHERS = ("teacher", "counterfactual_teacher")
# Two or four sizes of a technique stand in a line; of others, three.
_COLUMNS = {2: 2, 4: 4}
_WIDTHS = {2: 430, 3: 280, 4: 200}


def training_rows(data: StudyData) -> pd.DataFrame:
    """Returns the primary attack's AUROC and the gap in token accuracy at every validation.

    Rows of finished runs with two validations or more, with `panel`: what taught the run, and its
    size where students have several.
    """
    rows = data.history
    whole = rows["task"].isna() & rows["block"].isna() & rows["run_b"].isna()
    rows = rows[whole & (rows["population"] == "private") & rows["value"].notna()]
    attack = (rows["metric"] == "auroc") & (rows["audit"] == "membership")
    attack &= rows.index.isin(data.of_primary(rows).index)
    gap = (rows["metric"] == _GAP) & (rows["params"] == GAP_PARAMS)
    rows = rows[attack | gap].drop_duplicates(["run", "metric", "step"])
    rows = rows[rows.groupby(["run", "metric"])["step"].transform("nunique") > 1]
    panels = _panels(data)
    rows = rows.assign(panel=rows["run"].map(panels), place=rows["run"].map(list(panels).index))
    return rows.sort_values(["place", "metric", "step"], kind="stable")


def training_charts(data: StudyData) -> dict[str, Spec]:
    """Returns a chart for each measure with rows, a panel for each technique."""
    rows = training_rows(data)
    colours = label_colours(data)
    found = {}
    for name, metric, title, null in _CHARTS:
        chosen = rows[rows["metric"] == metric]
        if len(chosen):
            layer = _curves(chosen, colours, title, null)
            found[name] = _in_panels(layer, list(dict.fromkeys(chosen["panel"])), _sizes(data))
    return found


def training_tables(data: StudyData) -> dict[str, PageTable]:
    """Returns every point of the curves with interval and counts."""
    rows = training_rows(data)
    if not len(rows):
        return {}
    columns = [
        *(TableColumn(title) for title in ("Model", "Measure")),
        *(TableColumn(title, numeric=True) for title in ("Update", "Estimate")),
        *(TableColumn(title, numeric=True) for title in ("Private", "Held out")),
    ]
    cells = [
        [
            TableCell(row["label"]),
            TableCell(_MEASURES[row["metric"]]),
            count_cell(row["step"]),
            estimate_cell(row),
            count_cell(row["n_members"]),
            count_cell(row["n_nonmembers"]),
        ]
        for _, row in rows.iterrows()
    ]
    names = ["label", "run", "name", "params", "metric", "step"]
    return {"training": PageTable(columns, cells, rows[[*names, *_ESTIMATE]])}


def _panels(data: StudyData) -> dict[str, str]:
    """Returns the panel of each run, in order: by what taught it, then by size; teachers last."""
    techniques = list(dict.fromkeys(cell.technique for cell in data.cells if cell.technique))
    sizes = _sizes(data)
    placed = []
    for cell in data.cells:
        if cell.role in _TEACHERS:
            placed.append((len(techniques) + 1, 0, cell.alias, "Teacher"))
            continue
        line = techniques.index(cell.technique) if cell.technique else len(techniques)
        name = cell.technique or "Without a teacher"
        column = sizes.index(cell.size) if cell.size in sizes else len(sizes)
        panel = f"{name} · {cell.size}" if len(sizes) > 1 else name
        placed.append((line, column, cell.alias, panel))
    return {alias: panel for *_, alias, panel in sorted(placed, key=lambda one: one[:2])}


def _sizes(data: StudyData) -> list[str]:
    return [size for listed in family_sizes(data).values() for size in listed]


def _curves(
    rows: pd.DataFrame, colours: Mapping[str, tuple[str, list[int]]], title: str, null: float
) -> alt.LayerChart:
    labels = [label for label in colours if label in set(rows["label"])]
    base = alt.Chart(rows[["label", "panel", "step", *_ESTIMATE]]).encode(
        x=alt.X("step:Q", title="Updates")
        .scale(domainMin=0, padding=6)
        .axis(tickCount=4, grid=False, format="d"),
        color=alt.Color(
            "label:N",
            scale=alt.Scale(domain=labels, range=[colours[label][0] for label in labels]),
            legend=None,
        ),
        tooltip=[
            alt.Tooltip("label:N", title="Run"),
            alt.Tooltip("step:Q", title="Update"),
            *estimate_tooltips(),
        ],
    )
    band = base.mark_area(opacity=0.14).encode(
        y=alt.Y("lower:Q", title=title), y2="upper:Q", detail="label:N"
    )
    line = base.mark_line(strokeWidth=2, point=True).encode(
        y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=False)),
        strokeDash=alt.StrokeDash(
            "label:N",
            scale=alt.Scale(domain=labels, range=[colours[label][1] for label in labels]),
            legend=None,
        ),
    )
    rule = base.mark_rule(strokeDash=[4, 4]).encode(
        y=alt.datum(null), x=alt.value(0), x2=alt.value("width"), color=alt.value(NEUTRAL)
    )
    return alt.LayerChart(layer=[band, rule, line])


def _in_panels(layer: alt.LayerChart, panels: Sequence[str], sizes: Sequence[str]) -> Spec:
    columns = _COLUMNS.get(len(sizes), 3)
    facet = alt.Facet("panel:N", title=None, sort=list(panels))
    chart = layer.properties(width=_WIDTHS[columns], height=170).facet(facet=facet, columns=columns)
    # Runs of other techniques take other numbers of updates.
    return panels_spec(chart.resolve_scale(x="independent"))
