"""Published figures beside those of a study that trains the same networks on the same records.

The figures are facts of "Membership and Memorization in LLM Knowledge Distillation" (arXiv
2508.07054), in `published_tables.json`. What its code computes differs from what it is named after
(docs/as_released.md), so that only runs and statistics of the `as_released` presets compare.
"""

import json
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import altair as alt
import pandas as pd

from common.prose import prose
from studies.claims.figures import ACCURACY_PARAMS, GAP_PARAMS
from studies.compare.memorization import HELD_OUT, PRIVATE
from studies.compare.primary_attack import REFERENCE
from studies.plan.cells import Cell
from studies.report import charts, tables
from studies.report.parts import Chart, Legend, Part, Text, section
from studies.report.study_data import StudyData

AS_RELEASED, CORRECTED = "as released", "corrected"
_FILE = Path(__file__).parent / "published_tables.json"
_DATA = "dolly"
# Techniques of which the published code computes what their recipe says.
_UNCHANGED = ("kd",)
# The published split and tokens, as a study's overrides give them.
_RELEASED_DATA = {
    ("--data.splits.protocol", "as_released"),
    ("--data.encoding.add_bos", "false"),
    ("--data.encoding.joint", "true"),
    ("--data.encoding.cut", "end"),
}
_REFERENCE_ATTACK = "REF (Pretrain)"
# Parameters that count where a metric is measured with several.
_PARAMS = {"token_accuracy": ACCURACY_PARAMS, "token_accuracy_gap": GAP_PARAMS}
_SAYS = prose(__file__)
_UTILITY = "rouge_l_f1"
Figures = dict[str, dict[str, float | dict[str, float]]]


@section("published", "Published figures beside ours")
def published(data: StudyData) -> Iterator[Part]:
    """Yields our figures beside published ones, where the study matches."""
    rows = published_rows(data)
    if not len(rows):
        return
    yield Text(_SAYS["text"].format(source=_facts()["source"]))
    # Next to a teacher's, students' figures would lie on one spot.
    aurocs = rows[(rows["metric"] == "auroc") & (rows["role"] != "teacher")]
    if len(aurocs):
        colours = charts.label_colours(data)
        like = (aurocs["training"] == AS_RELEASED) & (aurocs["statistic"] == AS_RELEASED)
        yield Legend("Runs", charts.legend_entries(colours, aurocs["label"]))
        yield Chart("published", _chart(aurocs.assign(like=like), colours), _SAYS["chart"], "AUROC")
    yield from (published_table(data, rows), Text(_SAYS["caption"], "caption"))


def published_rows(data: StudyData) -> pd.DataFrame:
    """Returns our rows that have a published figure, with it; none where no cell matches.

    Further columns: `published` in our unit, `measure`, and `training` and `statistic`, each
    `AS_RELEASED` or `CORRECTED`.
    """
    rows = data.results
    whole = rows["task"].isna() & rows["block"].isna() & rows["run_b"].isna()
    rows = rows[whole & rows["value"].notna()]
    found = []
    for cell in data.cells:
        figures, column = _figures(cell), _column(cell)
        if not figures or column is None:
            continue
        for index, row in rows[rows["run"] == cell.alias].iterrows():
            match = _match(row, figures, column, cell)
            if match is not None:
                found.append(rows.loc[[index]].assign(**match, training=_training(cell, column)))
    return pd.concat(found) if found else rows.iloc[:0]


@cache
def _facts() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    return facts


def _figures(cell: Cell) -> Figures:
    """Returns the published tables of a cell's network; empty where it or its records differ."""
    if not any(path.parent.name == "data" and path.stem == _DATA for path in _fragments(cell)):
        return {}
    figures: Figures = _facts()["figures"].get(cell.family, {}).get(cell.size, {})
    return figures


def _column(cell: Cell) -> str | None:
    """Returns what published tables call a cell; None where they have none like it."""
    if cell.defence is not None:
        return None
    if cell.role in ("teacher", "control"):
        return "Teacher" if cell.role == "teacher" else "No KD"
    if cell.role != "student" or cell.factors:
        return None
    # A label is the study's own; the fragment says which technique it is.
    stems = [path.stem for path in _fragments(cell) if path.parent.name == "techniques"]
    return next((_SAYS["techniques"][stem] for stem in stems if stem in _SAYS["techniques"]), None)


def _match(
    row: pd.Series, figures: Figures, column: str, cell: Cell
) -> dict[str, float | str] | None:
    """Returns the figure, measure and statistic that belong to one of our rows, if any does."""
    if row["metric"] == "auroc":
        return _membership(row, figures, column, cell)
    table, measure, statistic = _SAYS["measures"].get(row["metric"], (None, "", ""))
    params = _PARAMS.get(row["metric"])
    figure = figures.get(table or "", {}).get(column)
    of_members = row["metric"] == _UTILITY or row["population"] == PRIVATE
    if not isinstance(figure, float | int) or not of_members or params not in (None, row["params"]):
        return None
    if row["metric"] == _UTILITY and row["population"] == HELD_OUT:
        statistic = AS_RELEASED
    share = 0.01 if _facts()["units"][table] == "percent" else 1.0
    return {"published": figure * share, "measure": measure, "statistic": statistic}


def _membership(
    row: pd.Series, figures: Figures, column: str, cell: Cell
) -> dict[str, float | str] | None:
    if row["audit"] != "membership" or row["population"] != PRIVATE:
        return None
    params = json.loads(row["params"])
    if params.get("unit") == "subject":
        return None
    published, statistic = _SAYS["attacks"].get(row["name"], (None, CORRECTED))
    if (row["name"], row["params"]) == REFERENCE:
        published = _REFERENCE_ATTACK
        released = any(path.stem.startswith("reference") for path in _presets(cell))
        statistic = AS_RELEASED if released else CORRECTED
    if row["name"] == "mope" and params.get("antithetic") is False:
        statistic = AS_RELEASED
    attacks = figures["auroc"].get(column)
    if published is None or not isinstance(attacks, dict):
        return None
    return {"published": attacks[published], "measure": published, "statistic": statistic}


def _training(cell: Cell, column: str) -> str:
    """Returns which preset trained a cell: its technique's, on records and tokens as released."""
    presets = {path.stem for path in _presets(cell)}
    data = "splits" in presets or set(pairwise(cell.arguments)) >= _RELEASED_DATA
    stems = [stem for stem, name in _SAYS["techniques"].items() if name == column]
    changed = [stem for stem in stems if stem not in _UNCHANGED and stem not in presets]
    return AS_RELEASED if data and not changed else CORRECTED


def _fragments(cell: Cell) -> list[PurePosixPath]:
    return [PurePosixPath(word) for before, word in pairwise(cell.arguments) if before == "-c"]


def _presets(cell: Cell) -> list[PurePosixPath]:
    return [path for path in _fragments(cell) if path.parent.name == "as_released"]


def published_table(data: StudyData, rows: pd.DataFrame) -> tables.PageTable:
    """Returns our figures beside published ones."""
    columns = [
        *tables.words(data.notes, label="Model", measure="Measure"),
        *tables.words(training="Training", statistic="Statistic"),
        *(tables.estimate("Ours"), tables.number("Published", "published", ".4g")),
        tables.Column("Ours − published", _difference),
        *tables.counts(False),
    ]
    named = ["label", "run", "measure", "training", "statistic", "published", "name", "params"]
    frame = rows[[*named, "metric", *tables.ESTIMATE]]
    return tables.table("published", "Ours and published", columns, rows, frame)


def _difference(row: pd.Series) -> tables.TableCell:
    return tables.estimate_cell(row[["value", "lower", "upper"]] - row["published"], style="+.3f")


def _chart(rows: pd.DataFrame, colours: charts.Colours) -> charts.Spec:
    labels = list(dict.fromkeys(rows["label"]))
    columns = ["label", "measure", "training", "statistic", "published", "like", *tables.ESTIMATE]
    base = alt.Chart(rows[columns]).encode(
        x=alt.X("published:Q", title="Published").scale(zero=False, padding=14),
        color=charts.label_colour(labels, colours),
        tooltip=charts.tooltips(
            *(("label:N", "Run"), ("published:Q", "Published", ".2f")),
            *(("training:N", "Training"), ("statistic:N", "Statistic")),
        ),
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
        x="published:Q", y="published:Q", color=alt.value(charts.NEUTRAL)
    )
    layer = alt.LayerChart(layer=[equal, bars, points]).properties(width=280, height=230)
    facet = alt.Facet("measure:N", title=None, sort=list(dict.fromkeys(rows["measure"])))
    chart = layer.facet(facet=facet, columns=3).resolve_axis(x="independent")
    return charts.panels_spec(chart)
