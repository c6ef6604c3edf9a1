"""Objectives by response sources: each on its own, all else equal.

Only students of a product are in it (`studies/plan/technique_section.py`): techniques as published
differ in more than these two.
"""

from collections.abc import Iterator

import pandas as pd

from common.prose import prose
from studies.report import tables
from studies.report.heat_maps import AUROC_SHADE, Shade, heat_map
from studies.report.over_replicates import FIGURE, figures_by, wide_figures
from studies.report.parts import Chart, Fold, Pair, Part, Text, section
from studies.report.study_data import StudyData

_TITLES = {
    "auroc": "AUROC",
    "excess": "Excess over the counterfactual",
    "rouge_l_f1": "ROUGE-L F1",
    "perplexity": "Perplexity",
}
_KEY = ["objective", "source", "family", "size"]
_SAYS = prose(__file__)


@section("objectives", "Objectives by responses")
def objectives(data: StudyData) -> Iterator[Part]:
    """Yields risk, its excess and utility, where the study has a product of techniques."""
    frame = objective_rows(data)
    if not len(frame):
        return
    yield Text(_SAYS["text"])
    drawn = [
        _map(frame, "auroc", AUROC_SHADE, "Risk", _SAYS["risk"].format(data.primary_name)),
        _map(
            *(frame, "excess", Shade("Difference of AUROC", -1.0, 0.0, 1.0)),
            *("Excess over the counterfactual", _SAYS["excess"]),
        ),
    ]
    utility = frame.loc[frame["measure"] == "rouge_l_f1", "value"].dropna()
    if len(utility):
        low, high = utility.min(), max(utility.max(), utility.min() + 0.01)
        # The most useful is cold, the least useful warm: where a low risk costs usefulness, both
        # maps turn the same way.
        shade = Shade("ROUGE-L F1", high, (low + high) / 2, low)
        drawn.append(_map(frame, "rouge_l_f1", shade, "Utility", _SAYS["rouge"]))
    risk, *beside = [chart for chart in drawn if chart is not None]
    yield from (risk, Pair(beside))
    yield Fold("Figures with intervals and counts", [objective_table(frame)])


def objective_rows(data: StudyData) -> pd.DataFrame:
    """Returns a row per objective, source, size and measure.

    Returns:
        Columns `measure` (auroc of the primary attack, excess: that minus the counterfactual
        student's, rouge_l_f1, perplexity), `label` (the objective, and the size where there are
        several), the factors, and the estimate with its counts; empty without a product.
    """
    cells = [
        {"run": cell.alias, "family": cell.family, "size": cell.size, "replicate": cell.replicate}
        | dict(zip(("objective", "source"), cell.factors, strict=True))
        for cell in data.cells
        if cell.role == "student" and cell.factors
    ]
    if not cells:
        return pd.DataFrame(columns=["label", "measure", *_KEY, *FIGURE])
    measured = pd.concat([rows.assign(measure=name) for name, rows in _measured(data)])
    rows = pd.DataFrame(cells).merge(measured[["run", "measure", *FIGURE[:-1]]], on="run")
    frame = figures_by(rows.assign(metric=rows["measure"]), ["measure", *_KEY])
    several = len(frame[["family", "size"]].drop_duplicates()) > 1
    label = frame["objective"].str.replace("_", " ")
    return frame.assign(label=label + " · " + frame["size"] if several else label)


def _measured(data: StudyData) -> Iterator[tuple[str, pd.DataFrame]]:
    yield "auroc", data.primary_rows()
    excess = data.of_primary(data.rows(metric="auroc_difference", task=None))
    roles = {cell.alias: cell.role for cell in data.cells}
    yield "excess", excess[excess["run_b"].map(roles) == "counterfactual"]
    for metric in ("rouge_l_f1", "perplexity"):
        rows = data.rows(audit="utility", metric=metric, task=None)
        yield metric, rows.drop_duplicates("run")


def _map(frame: pd.DataFrame, measure: str, shade: Shade, title: str, caption: str) -> Chart | None:
    rows = frame[(frame["measure"] == measure) & frame["value"].notna()]
    if not len(rows):
        return None
    name = f"objective_{measure.removesuffix('_l_f1')}"
    return Chart(name, heat_map(rows, "source", shade, title="Responses"), caption, title)


def objective_table(frame: pd.DataFrame) -> tables.PageTable:
    """Returns a row per objective and source, every measure with its counts."""
    shown = [name for name in _TITLES if (frame["measure"] == name).any()]
    columns = [
        *tables.words(label="Objective", source="Responses"),
        *(tables.estimate(_TITLES[name], f"{name}_") for name in shown),
        *tables.counts(True),
    ]
    wide = wide_figures(frame, ["label", *_KEY])
    return tables.table(
        "objectives", _SAYS["table"], columns, wide, frame[["measure", *_KEY, *FIGURE]]
    )
