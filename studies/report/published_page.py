"""The page's section on published figures: ours against them, in a chart and a table."""

import altair as alt
import pandas as pd

from studies.report.charts import NEUTRAL, Spec, estimate_tooltips, label_colours, panels_spec
from studies.report.page_tables import PageTable, TableCell, TableColumn, count_cell, estimate_cell
from studies.report.published import AS_RELEASED, published_rows, published_source
from studies.report.study_data import StudyData

__all__ = ["published_charts", "published_tables", "published_values"]

_COLUMNS = 3
_ESTIMATE = ["value", "lower", "upper", "n_members", "n_nonmembers"]


def published_charts(data: StudyData) -> dict[str, Spec]:
    """Returns our AUROCs against published ones, a panel per attack, where the study matches."""
    rows = published_rows(data)
    # Next to a teacher's, students' figures would lie on one spot.
    rows = rows[(rows["metric"] == "auroc") & (rows["role"] != "teacher")]
    if not len(rows):
        return {}
    like = (rows["training"] == AS_RELEASED) & (rows["statistic"] == AS_RELEASED)
    return {"published": _panels(rows.assign(like=like), label_colours(data))}


def published_tables(data: StudyData) -> dict[str, PageTable]:
    """Returns our figures beside published ones, where the study matches."""
    rows = published_rows(data)
    if not len(rows):
        return {}
    columns = [
        *(TableColumn(title) for title in ("Model", "Measure", "Training", "Statistic")),
        TableColumn("Ours", numeric=True),
        TableColumn("Published", numeric=True),
        TableColumn("Ours − published", numeric=True),
        *(TableColumn(title, numeric=True) for title in ("Private", "Held out")),
    ]
    cells = [
        [
            *(TableCell(row[name]) for name in ("label", "measure", "training", "statistic")),
            estimate_cell(row),
            TableCell(f"{row['published']:.4g}", f"{row['published']:.9g}"),
            _difference(row),
            count_cell(row["n_members"]),
            count_cell(row["n_nonmembers"]),
        ]
        for _, row in rows.iterrows()
    ]
    names = ["label", "run", "measure", "training", "statistic", "published", "name", "params"]
    return {"published": PageTable(columns, cells, rows[[*names, "metric", *_ESTIMATE]])}


def published_values(data: StudyData) -> dict[str, object]:
    """Returns where the published figures are from."""
    return {"published_source": published_source()}


def _difference(row: pd.Series) -> TableCell:
    shifted = row[["value", "lower", "upper"]] - row["published"]
    text = f"{shifted['value']:+.3f}"
    if shifted.notna().all():
        text += f" [{shifted['lower']:+.3f}, {shifted['upper']:+.3f}]"
    return TableCell(text, f"{shifted['value']:.9g}")


def _panels(rows: pd.DataFrame, colours: dict[str, tuple[str, list[int]]]) -> Spec:
    labels = list(dict.fromkeys(rows["label"]))
    columns = ["label", "measure", "training", "statistic", "published", "like", *_ESTIMATE]
    base = alt.Chart(rows[columns]).encode(
        x=alt.X("published:Q", title="Published").scale(zero=False, padding=14),
        color=alt.Color("label:N", legend=None).scale(
            domain=labels, range=[colours[label][0] for label in labels]
        ),
        tooltip=[
            alt.Tooltip("label:N", title="Run"),
            alt.Tooltip("published:Q", title="Published", format=".2f"),
            alt.Tooltip("training:N", title="Training"),
            alt.Tooltip("statistic:N", title="Statistic"),
            *estimate_tooltips(),
        ],
    )
    bars = base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(
        y=alt.Y("lower:Q", title="Ours").scale(zero=False, padding=14), y2="upper:Q"
    )
    points = base.mark_point(size=45, opacity=1, strokeWidth=1.5).encode(
        y=alt.Y("value:Q", title="Ours"),
        fillOpacity=alt.condition("datum.like", alt.value(1), alt.value(0)),
        fill=alt.Fill("label:N", legend=None).scale(
            domain=labels, range=[colours[label][0] for label in labels]
        ),
    )
    equal = base.mark_line(strokeDash=[4, 4], strokeWidth=1).encode(
        x="published:Q", y="published:Q", color=alt.value(NEUTRAL)
    )
    layer = alt.LayerChart(layer=[equal, bars, points]).properties(width=280, height=230)
    facet = alt.Facet("measure:N", title=None, sort=list(dict.fromkeys(rows["measure"])))
    chart = layer.facet(facet=facet, columns=_COLUMNS).resolve_axis(x="independent")
    return panels_spec(chart)
