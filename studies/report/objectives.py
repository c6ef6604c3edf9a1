"""The page's section on objectives and response sources: each on its own, all else equal.

Only students of a product are in it (`studies/plan/techniques.py`): techniques as published
differ in more than these two (corrections, item 12).
"""

from collections.abc import Iterator

import altair as alt
import pandas as pd

from studies.report.charts import Spec, chart_spec, estimate_tooltips
from studies.report.heat_maps import Shade
from studies.report.over_replicates import FIGURE, figure_of
from studies.report.page_tables import PageTable, TableCell, TableColumn, estimate_cell
from studies.report.study_data import StudyData

__all__ = ["objective_charts", "objective_rows", "objective_tables"]

_RISK, _EXCESS = "auroc", "excess"
_UTILITY = {"rouge_l_f1": "ROUGE-L F1", "perplexity": "Perplexity"}
_TITLES = {_RISK: "AUROC", _EXCESS: "Excess over the counterfactual", **_UTILITY}
_KEY = ["objective", "source", "family", "size"]
_FACTORS = ["objective", "source"]


def objective_rows(data: StudyData) -> pd.DataFrame:
    """Returns a row per objective, source, size and measure.

    Args:
        data: The study.

    Returns:
        Columns `measure` (auroc of the primary attack, excess: that minus the counterfactual
        student's, rouge_l_f1, perplexity), `label` (the objective, and the size where there are
        several), the factors, and the estimate with its counts; empty without a product.
    """
    cells = [
        dict(zip(_FACTORS, cell.factors, strict=True))
        | {"run": cell.alias, "family": cell.family, "size": cell.size, "replicate": cell.replicate}
        for cell in data.cells
        if cell.role == "student" and cell.factors
    ]
    columns = ["measure", *_KEY, *FIGURE]
    if not cells:
        return pd.DataFrame(columns=["label", *columns])
    found = pd.concat([rows.assign(measure=name) for name, rows in _measured(data)])
    figures = ["run", "measure", *FIGURE[:-1]]
    found = pd.DataFrame(cells).merge(found[figures], on="run")
    found = found.assign(metric=found["measure"])
    rows = [
        dict(zip(["measure", *_KEY], key, strict=True)) | figure_of(own)
        for key, own in found.groupby(["measure", *_KEY], sort=False)
    ]
    frame = pd.DataFrame(rows, columns=columns)
    several = len(frame[["family", "size"]].drop_duplicates()) > 1
    label = frame["objective"].str.replace("_", " ")
    return frame.assign(label=label + " · " + frame["size"] if several else label)


def _measured(data: StudyData) -> Iterator[tuple[str, pd.DataFrame]]:
    aurocs = data.auroc_rows()
    yield _RISK, data.of_primary(aurocs).drop_duplicates("run")
    excess = data.of_primary(data.rows(metric="auroc_difference", task=None))
    roles = {cell.alias: cell.role for cell in data.cells}
    yield _EXCESS, excess[excess["run_b"].map(roles) == "counterfactual"]
    for metric in _UTILITY:
        rows = data.rows(audit="utility", metric=metric, task=None)
        yield metric, rows.drop_duplicates("run")


def objective_charts(data: StudyData) -> dict[str, Spec]:
    """Returns heat maps of risk, of its excess over the counterfactual, and of utility."""
    frame = objective_rows(data)
    frame = frame[frame["value"].notna()]
    shades = {
        "objective_auroc": (_RISK, Shade("AUROC", 0.0, 0.5, 1.0)),
        "objective_excess": (_EXCESS, Shade("Difference of AUROC", -1.0, 0.0, 1.0)),
    }
    utility = frame[frame["measure"] == "rouge_l_f1"]["value"]
    if len(utility):
        low, high = utility.min(), max(utility.max(), utility.min() + 0.01)
        # The most useful is cold, the least useful warm: where a low risk costs usefulness, both
        # maps turn the same way.
        shades["objective_rouge"] = (
            "rouge_l_f1",
            Shade("ROUGE-L F1", high, (low + high) / 2, low),
        )
    return {
        name: _map(frame[frame["measure"] == measure], shade)
        for name, (measure, shade) in shades.items()
        if (frame["measure"] == measure).any()
    }


def _map(rows: pd.DataFrame, shade: Shade) -> Spec:
    frame = rows[["label", *_FACTORS, *FIGURE]]
    base = alt.Chart(frame).encode(
        x=alt.X(
            "source:N",
            sort=list(dict.fromkeys(frame["source"])),
            title="Responses",
            axis=alt.Axis(orient="top", labelAngle=0, ticks=False, domain=False),
        ),
        y=alt.Y(
            "label:N",
            sort=list(dict.fromkeys(frame["label"])),
            title=None,
            axis=alt.Axis(ticks=False, domain=False, labelLimit=220),
        ),
        tooltip=[
            alt.Tooltip("label:N", title="Objective"),
            alt.Tooltip("source:N", title="Responses"),
            *estimate_tooltips(),
            alt.Tooltip("replicates:Q", title="Replicates"),
        ],
    )
    cells = base.mark_rect(cornerRadius=3).encode(color=shade.color())
    text = base.mark_text(fontSize=12.5).encode(
        text=alt.Text("value:Q", format=shade.format), color=shade.ink()
    )
    chart = alt.LayerChart(layer=[cells, text])
    return chart_spec(chart, height=64 + 30 * frame["label"].nunique(), ink=True)


def objective_tables(data: StudyData) -> dict[str, PageTable]:
    """Returns the table `objectives`: a row per objective and source, every measure with n."""
    frame = objective_rows(data)
    if not len(frame):
        return {}
    shown = [name for name in _TITLES if (frame["measure"] == name).any()]
    columns = [
        *(TableColumn(title) for title in ("Objective", "Responses")),
        *(TableColumn(_TITLES[name], numeric=True) for name in shown),
        *(TableColumn(name, numeric=True) for name in ("Replicates", "Private", "Held out")),
    ]
    rows = [
        [TableCell(str(label)), TableCell(str(source)), *_cells(own, shown)]
        for (label, source, *_), own in frame.groupby(["label", "source", *_KEY], sort=False)
    ]
    return {"objectives": PageTable(columns, rows, frame[["measure", *_KEY, *FIGURE]])}


def _cells(own: pd.DataFrame, shown: list[str]) -> Iterator[TableCell]:
    by_measure = {str(one["measure"]): one for _, one in own.iterrows()}
    for name in shown:
        known = name in by_measure
        yield estimate_cell(by_measure[name]) if known else TableCell("—", "")
    for name in ("replicates", "n_members", "n_nonmembers"):
        number = own[name].iloc[0]
        known = pd.notna(number)
        yield TableCell(f"{number:,.0f}", f"{number:.0f}") if known else TableCell("—", "")
