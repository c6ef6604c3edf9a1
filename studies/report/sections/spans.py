"""Sensitive spans: how likely they come out, of every model and of records that it never met."""

import json
from collections.abc import Iterator

import pandas as pd

from audits.model_card.markdown import Row
from audits.model_card.span_section import measure_of, span_rows
from common.prose import prose
from studies.report.charts import point_lines
from studies.report.forest import attack_entries, forest
from studies.report.over_replicates import over_replicates
from studies.report.parts import Chart, Legend, Part, Text, section
from studies.report.sections.memorization import memorization_table
from studies.report.study_data import StudyData

_SAYS = prose(__file__)
_RATE, _PREFERRED = "span_extraction_rate", "span_preferred"
_TYPED = ("span_probability", _PREFERRED, "span_answered")
_CHANCE = 0.5


@section("spans", "Sensitive spans")
def spans(data: StudyData) -> Iterator[Part]:
    """Yields what is preferred and comes out, every figure, and figures by type of span."""
    rows = data.rows(audit="spans", task=None)
    if not len(rows):
        return
    yield Text(_SAYS["text"])
    whole = _worded(rows[_among(rows, span_rows(_records(rows)))], "against", "minus {}")
    yield from _preferred(data, whole)
    yield from _curve(data, whole)
    yield memorization_table(data, "spans", _SAYS["all"], whole)
    typed = rows[rows["metric"].isin(_TYPED) & (_option(rows, "type") != "")]
    if len(typed):
        named = _worded(typed, "type", "{}")
        yield memorization_table(data, "spans_by_type", _SAYS["by_type"], named)


def _records(rows: pd.DataFrame) -> list[Row]:
    columns = [str(column) for column in rows.columns]
    return [dict(zip(columns, row, strict=True)) for row in rows.itertuples(index=False, name=None)]


def _among(rows: pd.DataFrame, chosen: list[Row]) -> pd.Series:
    kept = {(one["run"], one["population"], one["metric"], one["params"]) for one in chosen}
    keys = zip(rows["run"], rows["population"], rows["metric"], rows["params"], strict=True)
    return pd.Series([key in kept for key in keys], index=rows.index)


def _option(rows: pd.DataFrame, name: str) -> pd.Series:
    """Returns an option of each row as text; "" where it has none."""
    return rows["params"].map(lambda params: str(json.loads(params).get(name) or ""))


def _worded(rows: pd.DataFrame, option: str, form: str) -> pd.DataFrame:
    """Returns rows with what they measure, and one of their options as what they are of."""
    details = _option(rows, option).str.replace("_", " ")
    return rows.assign(
        measure=[measure_of(row) for row in _records(rows)],
        detail=[form.format(text) if text else "—" for text in details],
    )


def _preferred(data: StudyData, rows: pd.DataFrame) -> Iterator[Part]:
    """Yields how often spans are preferred to others of their kind, a mark per population."""
    shares = rows[(rows["metric"] == _PREFERRED) & rows["value"].notna()]
    if not len(shares):
        return
    figures = over_replicates(data, shares.assign(label_b=None), ["population", "metric"])
    figures = figures.assign(attack=figures["population"].astype(str).str.replace("_", " "))
    figures = figures.sort_values("attack", key=lambda names: names != "private", kind="stable")
    yield Legend(_SAYS["marks"], attack_entries(figures["attack"]))
    spec = forest(figures, "label", _SAYS["axis"], _CHANCE, marks=_SAYS["marks"])
    yield Chart(_PREFERRED, spec, _SAYS["preferred"], _SAYS["preferred_title"])


def _curve(data: StudyData, rows: pd.DataFrame) -> Iterator[Chart]:
    """Yields the share of spans that come out by the number of samples, a line per population."""
    rates = rows[(rows["metric"] == _RATE) & rows["value"].notna()]
    # Lines of zeros say no more than the table.
    if not rates["value"].any():
        return
    rates = rates.assign(label_b=None)
    figures = over_replicates(data, rates, ["population", "params", "metric"])
    lines = figures.assign(
        n=_option(figures, "n").astype(int),
        line=figures["label"] + ", " + figures["population"].astype(str).str.replace("_", " "),
    )
    spec = point_lines(lines, "n", "Samples", "Share of spans")
    yield Chart("span_samples", spec, _SAYS["curve"], "Spans by the number of samples")
