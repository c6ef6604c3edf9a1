"""The tables of the section on blocks: do they differ, what probes add, and every figure."""

import pandas as pd

from studies.claims.verdict import BLOCK_MARGIN
from studies.report.blocks import PLACE, block_rows, mean_profiles, probe_rows
from studies.report.over_replicates import over_replicates
from studies.report.page_tables import (
    PageTable,
    TableCell,
    TableColumn,
    count_cell,
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
        tables["block_tests"] = _tests_table(data, rows)
        tables["blocks"] = _areas_table(data, rows)
    probes = probe_rows(data)
    if len(probes):
        tables["block_probes"] = _probes_table(data, probes)
    return tables


def _areas_table(data: StudyData, rows: pd.DataFrame) -> PageTable:
    """AUROC of every block with interval, and its corrected p-value."""
    rows = rows[rows["metric"] == "auroc"]
    columns = [
        *(TableColumn(title) for title in ("Model", "Signal")),
        TableColumn("Block", numeric=True),
        TableColumn("AUROC", numeric=True),
        TableColumn(_support_title(data), numeric=True),
    ]
    cells = [
        [
            TableCell(row["label"]),
            TableCell(row["signal"]),
            _block_cell(row),
            estimate_cell(row),
            _support_cell(data, row),
        ]
        for _, row in mean_profiles(data, rows).iterrows()
    ]
    names = ["label", "run", "signal", "name", "params", "block", "n_blocks", "depth", "metric"]
    return PageTable(columns, cells, rows[[*names, *_NUMBERS, "shifted"]])


def _tests_table(data: StudyData, rows: pd.DataFrame) -> PageTable:
    """Whether blocks differ: max - min with its interval, a row per model and signal.

    A single model has tests of its own. Of several replicates the table counts those of which a
    large difference is shown; what they say together is a claim of the study's.
    """
    key = ["run", "name", "params"]
    tests = rows[rows["metric"] == "max_minus_min"]
    for metric, part, name in (
        ("max_minus_min_corrected", "value", "corrected"),
        ("equal_blocks_wald", "p_value", "wald_p_value"),
    ):
        other = rows.loc[rows["metric"] == metric, [*key, part]].rename(columns={part: name})
        tests = tests.merge(other, on=key, how="left")
    numeric = ["Max − min", "Less bias", *([] if data.replicated else ["p (1)", "p (2)"])]
    columns = [
        *(TableColumn(title) for title in ("Model", "Signal", "Large")),
        *(TableColumn(title, numeric=True) for title in numeric),
    ]
    p_values = [] if data.replicated else ["p_value", "wald_p_value"]
    cells = [
        [
            TableCell(row["label"]),
            TableCell(row["signal"]),
            TableCell(row["large"]),
            estimate_cell(row),
            TableCell(f"{row['corrected']:.3f}", f"{row['corrected']:.9g}"),
            *(p_value_cell(row[name]) for name in p_values),
        ]
        for _, row in _judged(data, tests).iterrows()
    ]
    names = ["label", "run", "signal", "name", "params", "n_blocks", "corrected", "wald_p_value"]
    return PageTable(columns, cells, tests[[*names, *_NUMBERS, "shifted"]])


def _judged(data: StudyData, tests: pd.DataFrame) -> pd.DataFrame:
    """Returns the tests with `large` in words, over replicates where there are several."""
    large = tests["lower"] > BLOCK_MARGIN
    if not data.replicated:
        return tests.assign(large=large.map({True: "shown", False: "not shown"}))
    key = ["label", "signal", "params"]
    kinds = tests.assign(label=tests["run"].map(data.kinds), large=large)
    counts = kinds.groupby(key)["large"].agg(["sum", "size"]).astype(str)
    words = (counts["sum"] + " of " + counts["size"]).rename("large")
    corrected = over_replicates(data, tests.assign(value=tests["corrected"]), key[1:])
    less_bias = corrected.set_index(key)["value"].rename("corrected")
    return over_replicates(data, tests, key[1:]).join(words, on=key).join(less_bias, on=key)


def _probes_table(data: StudyData, rows: pd.DataFrame) -> PageTable:
    """What a probe finds in a model beyond another, at every block."""
    shown = rows
    if data.replicated:
        shown = rows.assign(label_b=rows["run_b"].map(data.kinds))
    columns = [
        *(TableColumn(title) for title in ("Model", "Compared with")),
        TableColumn("Block", numeric=True),
        TableColumn("Difference of AUROC", numeric=True),
        TableColumn(_support_title(data), numeric=True),
    ]
    cells = [
        [
            TableCell(row["label"]),
            TableCell(row["label_b"]),
            _block_cell(row),
            estimate_cell(row),
            _support_cell(data, row),
        ]
        for _, row in over_replicates(data, shown, ["label_b", "params", *PLACE]).iterrows()
    ]
    names = ["label", "run", "label_b", "run_b", "name", "params", "block", "n_blocks", "depth"]
    return PageTable(columns, cells, rows[[*names, *_NUMBERS, "shifted"]])


def _support_title(data: StudyData) -> str:
    """What stands beside an estimate: its replicates, or the test of a single model."""
    return "Replicates" if data.replicated else "p, corrected over blocks"


def _support_cell(data: StudyData, row: pd.Series) -> TableCell:
    return count_cell(row["replicates"]) if data.replicated else p_value_cell(row["p_value"])


def _block_cell(row: pd.Series) -> TableCell:
    return TableCell(f"{row['block']:.0f} of {row['n_blocks']}", f"{row['depth']:.6f}")
