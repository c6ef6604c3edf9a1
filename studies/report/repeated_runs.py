"""Rows of runs that repeat each other as those of one run: means over replicates."""

import numpy as np
import pandas as pd

from audits.rows import Audit
from audits.statistics.verdict import TAIL_METRIC
from studies.compare.shift import shift_of_splits
from studies.report.over_replicates import figure_of
from studies.report.study_data import StudyData

_ROLES = ("teacher", "student", "control")
Row = dict[str, object]


def runs_by_kind(data: StudyData) -> dict[str, list[str]]:
    """Returns the runs that repeat each other, of teachers, students and controls."""
    kinds: dict[str, list[str]] = {}
    for cell in data.cells:
        if cell.role in _ROLES:
            kinds.setdefault(data.kinds[cell.alias], []).append(cell.alias)
    return kinds


def means(data: StudyData, rows: pd.DataFrame) -> list[Row]:
    """Returns rows of runs that repeat each other as those of one run."""
    key = ["audit", "population", "name", "params", "metric"]
    return [mean_of(data, own) for _, own in rows.groupby(key, sort=False, dropna=False)]


def means_of_audit(data: StudyData, rows: pd.DataFrame) -> list[Row]:
    """Returns the same of rows of one audit of one population, whose texts are asked once."""
    shifted = texts_shifted(data, rows)
    groups = rows.groupby(["name", "params", "metric"], sort=False, dropna=False)
    return [_merged(data, own, shifted) for _, own in groups]


def mean_of(data: StudyData, rows: pd.DataFrame) -> Row:
    """Returns the row that stands for those of several runs, or the row itself."""
    return _merged(data, rows, texts_shifted(data, rows))


def _merged(data: StudyData, rows: pd.DataFrame, shifted: bool | None) -> Row:
    replicates = {cell.alias: cell.replicate for cell in data.cells}
    figure = figure_of(rows.assign(replicate=rows["run"].map(replicates)))
    if rows["metric"].iloc[0] == TAIL_METRIC:
        figure |= {end: rows[end].mean() for end in ("lower", "upper")}
    merged = rows.iloc[0].to_dict() | figure
    return _plain(merged | {"shifted": shifted, "skipped": rows["skipped"].max()})


def texts_shifted(data: StudyData, rows: pd.DataFrame) -> bool | None:
    """Returns whether the texts of some run tell its sides apart; None where that is not settled.

    One split may have too few records to settle it, and those of all replicates enough.
    """
    told = rows[rows["audit"] == str(Audit.membership)]["shifted"]
    if told.eq(True).any():
        return True
    if len(told) and told.notna().all():
        return False
    together = shift_of_splits(data.results, {cell.alias: cell for cell in data.cells})
    return None if together is None else together.shifted


def records(rows: pd.DataFrame) -> list[Row]:
    """Returns rows as they are, with None for what is not there."""
    return [_plain(row) for row in rows.to_dict("records")]


def _plain(row: dict[object, object]) -> Row:
    """Returns a row with None for what is not there, as tables hold it."""
    return {
        str(name): None if isinstance(value, float) and np.isnan(value) else value
        for name, value in row.items()
    }
