"""How many records it takes until somebody can show that theirs were used."""

import json
from collections.abc import Iterator

import pandas as pd

from audits.membership.dataset_inference import SET_EFFECT, SETS_DETECTED
from common.prose import prose
from studies.report import tables
from studies.report.parts import Part, Text, section
from studies.report.study_data import StudyData

_SAYS = prose(__file__)


@section("sets", "Was a set of records used?")
def sets(data: StudyData) -> Iterator[Part]:
    """Yields the test of whole sets, by model and size of the set."""
    rows = [
        _of_records(data.rows(audit="membership", population="private", metric=metric))
        for metric in (SET_EFFECT, SETS_DETECTED)
    ]
    if len(rows[0]):
        yield from (_table(data, *rows), Text(_SAYS["sets"], "caption"))


def _of_records(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows about records, with their size of the set where they have one."""
    params = rows["params"].map(json.loads)
    sizes = params.map(lambda own: own.get("set_size"))
    return rows.assign(set_size=sizes)[~params.map(lambda own: "unit" in own).astype(bool)]


def _table(data: StudyData, whole: pd.DataFrame, parts: pd.DataFrame) -> tables.PageTable:
    shares = parts.pivot_table("value", "run", "set_size", observed=True)
    sizes = {f"share_{size:g}": f"Of {size:g}" for size in shares.columns}
    shares.columns = list(sizes)
    shown = whole.merge(shares.reset_index(), on="run", how="left")
    kept = ["label", "run", "value", "p_value", "n_members", "n_nonmembers", *sizes]
    names = ["value", "n_members", "n_nonmembers", *sizes]
    grouped = shown
    if data.replicated:
        kinds = shown["run"].map(data.kinds)
        means = shown.groupby(kinds, sort=False)[names].mean()
        largest = shown.groupby(kinds, sort=False)["p_value"].max()
        grouped = means.assign(p_value=largest).rename_axis("label").reset_index()
    columns = [
        *tables.words(data.notes, label="Model"),
        tables.number("Effect, in standard deviations", "value", ".2f"),
        tables.p_value("Largest p" if data.replicated else "p, all together"),
        *(tables.number(title, name, ".0%") for name, title in sizes.items()),
        *tables.counts(False),
    ]
    return tables.table("sets", _SAYS["title"], columns, grouped, shown[kept])
