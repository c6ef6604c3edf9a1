"""The page's answer to "does it leak at all": one test over all attacks of each model."""

import json

import pandas as pd

from audits.membership.any_leak import MAX_T
from studies.report.page_tables import PageTable, TableCell, TableColumn, count_cell, p_value_cell
from studies.report.study_data import ATTACK_NAMES, StudyData

__all__ = ["any_leak_tables"]

_LEVEL = 0.05


def any_leak_tables(data: StudyData) -> dict[str, PageTable]:
    """Returns each model's max-T test over its attacks; of several replicates, how many reject."""
    rows = data.rows(audit="membership", population="private", metric=MAX_T)
    if not len(rows):
        return {}
    params = rows["params"].map(json.loads)
    rows = rows.assign(
        attacks=params.map(lambda own: own["attacks"]),
        largest=params.map(lambda own: own.get("largest")),
    )
    names = ["label", "run", "value", "p_value", "largest", "attacks", "n_members", "n_nonmembers"]
    table = _over_replicates(data, rows) if data.replicated else _single(rows)
    return {"any_leak": PageTable(*table, rows[names])}


def _single(rows: pd.DataFrame) -> tuple[list[TableColumn], list[list[TableCell]]]:
    titles = ("Standardised AUROC", "p (max-T)", "Attacks", "Private", "Held out")
    columns = [TableColumn("Model"), TableColumn("Strongest attack")]
    cells = [
        [
            TableCell(row["label"]),
            TableCell(ATTACK_NAMES.get(row["largest"], row["largest"] or "—")),
            TableCell("—", "")
            if pd.isna(row["value"])
            else TableCell(f"{row['value']:.2f}", f"{row['value']:.9g}"),
            p_value_cell(row["p_value"]),
            *(count_cell(row[name]) for name in ("attacks", "n_members", "n_nonmembers")),
        ]
        for _, row in rows.iterrows()
    ]
    return [*columns, *(TableColumn(title, numeric=True) for title in titles)], cells


def _over_replicates(
    data: StudyData, rows: pd.DataFrame
) -> tuple[list[TableColumn], list[list[TableCell]]]:
    titles = ("Runs", f"p at most {_LEVEL:g}", "Smallest p", "Largest p", "Attacks")
    columns = [TableColumn("Model"), *(TableColumn(title, numeric=True) for title in titles)]
    cells = [
        [
            TableCell(str(kind)),
            count_cell(len(own)),
            count_cell((own["p_value"] <= _LEVEL).sum()),
            p_value_cell(own["p_value"].min()),
            p_value_cell(own["p_value"].max()),
            count_cell(own["attacks"].max()),
        ]
        for kind, own in rows.groupby(rows["run"].map(data.kinds), sort=False)
    ]
    return columns, cells
