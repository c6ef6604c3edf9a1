"""The tables of the section on blocks: do they differ, what probes add, and every figure."""

import pandas as pd

from studies.claims.verdict import BLOCK_MARGIN
from studies.report.blocks import block_rows, probe_rows
from studies.report.page_tables import (
    PageTable,
    TableCell,
    TableColumn,
    estimate_cell,
    p_value_cell,
)
from studies.report.study_data import StudyData

__all__ = ["block_tables"]

_NUMBERS = ["value", "lower", "upper", "p_value", "n_members", "n_nonmembers"]


def block_tables(data: StudyData) -> dict[str, PageTable]:
    """Returns the section's tables by name, as far as measured: tests, probes, blocks."""
    tables: dict[str, PageTable] = {}
    rows = block_rows(data)
    if len(rows):
        tables["block_tests"] = _tests_table(rows)
        tables["blocks"] = _areas_table(rows)
    probes = probe_rows(data)
    if len(probes):
        tables["block_probes"] = _probes_table(probes)
    return tables


def _areas_table(rows: pd.DataFrame) -> PageTable:
    """AUROC of every block with interval, corrected p-value and counts."""
    rows = rows[rows["metric"] == "auroc"]
    columns = [
        *(TableColumn(title) for title in ("Model", "Signal")),
        TableColumn("Block", numeric=True),
        TableColumn("AUROC", numeric=True),
        TableColumn("p, corrected over blocks", numeric=True),
    ]
    cells = [
        [
            TableCell(row["label"]),
            TableCell(row["signal"]),
            _block_cell(row),
            estimate_cell(row),
            p_value_cell(row["p_value"]),
        ]
        for _, row in rows.iterrows()
    ]
    names = ["label", "run", "signal", "name", "params", "block", "n_blocks", "depth", "metric"]
    return PageTable(columns, cells, rows[[*names, *_NUMBERS, "shifted"]])


def _tests_table(rows: pd.DataFrame) -> PageTable:
    """Whether blocks differ: max - min with its interval and tests, a row per model and signal."""
    key = ["run", "name", "params"]
    tests = rows[rows["metric"] == "max_minus_min"]
    for metric, part, name in (
        ("max_minus_min_corrected", "value", "corrected"),
        ("equal_blocks_wald", "p_value", "wald_p_value"),
    ):
        other = rows.loc[rows["metric"] == metric, [*key, part]].rename(columns={part: name})
        tests = tests.merge(other, on=key, how="left")
    columns = [
        *(TableColumn(title) for title in ("Model", "Signal", "Large")),
        *(
            TableColumn(title, numeric=True)
            for title in (
                "Max − min",
                "Less bias",
                "p (1)",
                "p (2)",
            )
        ),
    ]
    cells = [
        [
            TableCell(row["label"]),
            TableCell(row["signal"]),
            TableCell("shown" if row["lower"] > BLOCK_MARGIN else "not shown"),
            estimate_cell(row),
            TableCell(f"{row['corrected']:.3f}", f"{row['corrected']:.9g}"),
            p_value_cell(row["p_value"]),
            p_value_cell(row["wald_p_value"]),
        ]
        for _, row in tests.iterrows()
    ]
    names = ["label", "run", "signal", "name", "params", "n_blocks", "corrected", "wald_p_value"]
    return PageTable(columns, cells, tests[[*names, *_NUMBERS, "shifted"]])


def _probes_table(rows: pd.DataFrame) -> PageTable:
    """What a probe finds in a model beyond another, at every block."""
    columns = [
        *(TableColumn(title) for title in ("Model", "Compared with")),
        TableColumn("Block", numeric=True),
        TableColumn("Difference of AUROC", numeric=True),
        TableColumn("p, corrected over blocks", numeric=True),
    ]
    cells = [
        [
            TableCell(row["label"]),
            TableCell(row["label_b"]),
            _block_cell(row),
            estimate_cell(row),
            p_value_cell(row["p_value"]),
        ]
        for _, row in rows.iterrows()
    ]
    names = ["label", "run", "label_b", "run_b", "name", "params", "block", "n_blocks", "depth"]
    return PageTable(columns, cells, rows[[*names, *_NUMBERS, "shifted"]])


def _block_cell(row: pd.Series) -> TableCell:
    return TableCell(f"{row['block']:.0f} of {row['n_blocks']}", f"{row['depth']:.6f}")
