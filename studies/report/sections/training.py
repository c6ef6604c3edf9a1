"""During training: how leakage and memorization grow, validation by validation."""

from collections.abc import Iterator, Mapping

import altair as alt
import pandas as pd

from common.prose import prose
from studies.claims.figures import GAP_PARAMS
from studies.report import tables
from studies.report.charts import banded_curves, in_panels, label_colours, legend_entries
from studies.report.labels import metric_title
from studies.report.parts import Chart, Fold, Legend, Part, section
from studies.report.study_data import StudyData

_GAP = "token_accuracy_gap"
_MEASURES = {"auroc": metric_title("auroc"), _GAP: "Gap in token accuracy, private − held out"}
_SAYS = prose(__file__)
# Metric -> chart, title of its axis, its value where nothing leaks, title, caption.
_CHARTS = {
    "auroc": ("training_auroc", "AUROC", 0.5, "Membership", _SAYS["membership"]),
    _GAP: ("training_gap", "Gap", 0.0, "Memorization", _SAYS["memorization"]),
}
_TEACHERS = ("teacher", "counterfactual_teacher")
# Two or four sizes of a technique stand in a line; of others, three.
_WIDTHS = {2: 430, 3: 280, 4: 200}


@section("training", "During training")
def training(data: StudyData) -> Iterator[Part]:
    """Yields a chart for each measure with rows, a panel for each technique and size."""
    rows = training_rows(data)
    if not len(rows):
        return
    colours = label_colours(data)
    yield Legend("Runs", legend_entries(colours, rows["label"]))
    n_sizes = sum(map(len, data.sizes.values()))
    columns = n_sizes if n_sizes in _WIDTHS else 3
    x = alt.X("step:Q", title="Updates").scale(domainMin=0, padding=6)
    x = x.axis(tickCount=4, grid=False, format="d")
    lines = (("label:N", "Run"), ("step:Q", "Update"))
    for metric, (name, axis, null, title, caption) in _CHARTS.items():
        chosen = rows[rows["metric"] == metric]
        if len(chosen):
            frame = chosen[["label", "panel", "step", *tables.ESTIMATE]].assign(banded=True)
            layer = banded_curves(frame, x, colours, axis, null, lines, alt.Scale(zero=False))
            # Runs of other techniques take other numbers of updates.
            spec = in_panels(
                *(layer, "panel", frame["panel"], (_WIDTHS[columns], 170)),
                columns=columns,
                independent=True,
            )
            yield Chart(name, spec, caption.format(data.primary_name), title)
    yield Fold("Figures with intervals and counts", [training_table(data, rows)])


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
    rows = rows.assign(panel=rows["run"].map(panels), position=rows["run"].map(list(panels).index))
    return rows.sort_values(["position", "metric", "step"], kind="stable")


def _panels(data: StudyData) -> Mapping[str, str]:
    """Returns the panel of each run, in order: by what taught it, then by size; teachers last."""
    techniques = list(dict.fromkeys(cell.technique for cell in data.cells if cell.technique))
    sizes = [size for listed in data.sizes.values() for size in listed]
    ordered = []
    for cell in data.cells:
        if cell.role in _TEACHERS:
            ordered.append((len(techniques) + 1, 0, cell.alias, "Teacher"))
            continue
        line = techniques.index(cell.technique) if cell.technique else len(techniques)
        name = cell.technique or "Without a teacher"
        column = sizes.index(cell.size) if cell.size in sizes else len(sizes)
        panel = f"{name} · {cell.size}" if len(sizes) > 1 else name
        ordered.append((line, column, cell.alias, panel))
    return {alias: panel for *_, alias, panel in sorted(ordered, key=lambda entry: entry[:2])}


def training_table(data: StudyData, rows: pd.DataFrame) -> tables.PageTable:
    """Returns every point of the curves with interval and counts."""
    columns = [
        *tables.words(data.notes, label="Model", measure="Measure"),
        *(tables.number("Update", "step"), tables.estimate("Estimate"), *tables.counts(False)),
    ]
    shown = rows.assign(measure=rows["metric"].map(_MEASURES))
    frame = rows[["label", "run", "name", "params", "metric", "step", *tables.ESTIMATE]]
    return tables.table("training", "Leakage at every validation", columns, shown, frame)
