"""How many records it takes until somebody can show that theirs were used."""

import json
from collections.abc import Iterator, Mapping

import pandas as pd

from audits.membership.dataset_inference import SET_EFFECT, SETS_DETECTED
from common.prose import prose
from studies.report import tables
from studies.report.parts import Part, Text, section
from studies.report.study_data import StudyData

SETS_HEADING = "Was a set of records used?"
_SAYS = prose(__file__)


@section("sets", SETS_HEADING)
def sets(data: StudyData) -> Iterator[Part]:
    """Yields the test of whole sets, by model and size of the set."""
    rows = data.rows(audit="membership", population="private")
    yield from sets_parts(rows, data.notes, data.kinds if data.replicated else None)


def sets_parts(
    rows: pd.DataFrame,
    notes: Mapping[str, str] | None = None,
    kinds: Mapping[str, str] | None = None,
    **counted: str,
) -> list[Part]:
    """Returns the table and what it says; nothing where no set was tested.

    Args:
        rows: Rows of the membership audit on members, with the `label` of each model.
        notes: What ran of a technique, by the labels of its models.
        kinds: What each run repeats, where runs are averaged.
        counted: Headings of `n_members` and `n_nonmembers`, where they are not a study's.
    """
    found = [_of_records(rows[rows["metric"] == one]) for one in (SET_EFFECT, SETS_DETECTED)]
    if found[0].empty:
        return []
    return [_table(notes, kinds, counted, *found), Text(_SAYS["sets"], "caption")]


def _of_records(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows about records, with their size of the set where they have one."""
    params = rows["params"].map(json.loads)
    sizes = params.map(lambda own: own.get("set_size"))
    return rows.assign(set_size=sizes)[~params.map(lambda own: "unit" in own).astype(bool)]


def _table(
    notes: Mapping[str, str] | None,
    kinds: Mapping[str, str] | None,
    counted: Mapping[str, str],
    whole: pd.DataFrame,
    parts: pd.DataFrame,
) -> tables.PageTable:
    shares = parts.pivot_table("value", "run", "set_size", observed=True)
    sizes = {f"share_{size:g}": f"Of {size:g}" for size in shares.columns}
    shares.columns = list(sizes)
    shown = whole.merge(shares.reset_index(), on="run", how="left")
    kept = ["label", "run", "value", "p_value", "n_members", "n_nonmembers", *sizes]
    names = ["value", "n_members", "n_nonmembers", *sizes]
    grouped = shown
    if kinds is not None:
        repeated = shown["run"].map(kinds)
        means = shown.groupby(repeated, sort=False)[names].mean()
        largest = shown.groupby(repeated, sort=False)["p_value"].max()
        grouped = means.assign(p_value=largest).rename_axis("label").reset_index()
    columns = [
        *tables.words(notes, label="Model"),
        tables.number("Effect, in standard deviations", "value", ".2f"),
        tables.p_value("p, all together" if kinds is None else "Largest p"),
        *(tables.number(title, name, ".0%") for name, title in sizes.items()),
        *tables.counts(False, **counted),
    ]
    return tables.table("sets", _SAYS["title"], columns, grouped, shown[kept])
