"""A table of the page: text for people, keys for sorting, and CSV with every column."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from common.wording import p_value_text

__all__ = [
    "PageTable",
    "TableCell",
    "TableColumn",
    "count_cell",
    "estimate_cell",
    "p_value_cell",
]


@dataclass(frozen=True)
class TableColumn:
    """A heading; numeric columns align right and sort by their keys."""

    title: str
    numeric: bool = False


@dataclass(frozen=True)
class TableCell:
    """A cell's text and, in a numeric column, its sorting key (empty where not measured)."""

    text: str
    key: str | None = None


@dataclass(frozen=True)
class PageTable:
    """A table for the page, and the frame that goes to CSV."""

    columns: list[TableColumn]
    rows: list[list[TableCell]]
    frame: pd.DataFrame

    def csv(self) -> str:
        """Returns the frame as CSV, numbers in full."""
        text = io.StringIO()
        self.frame.to_csv(text, index=False, quoting=csv.QUOTE_MINIMAL, lineterminator="\n")
        return text.getvalue()

    def noted(self, notes: Mapping[str, str]) -> "PageTable":
        """Returns the table with a note behind each cell that is just a name with one.

        Args:
            notes: Notes by name.
        """
        rows = [
            [
                replace(cell, text=f"{cell.text} ({notes[cell.text]})")
                if cell.text in notes
                else cell
                for cell in row
            ]
            for row in self.rows
        ]
        return replace(self, rows=rows)


def p_value_cell(number: float) -> TableCell:
    """Returns a p-value, or a dash where there is no test."""
    if pd.isna(number):
        return TableCell("—", "")
    return TableCell(p_value_text(number).removeprefix("p = ").removeprefix("p "), f"{number:.9g}")


def count_cell(number: float) -> TableCell:
    """Returns a whole number, or a dash where there is none."""
    return TableCell("—", "") if pd.isna(number) else TableCell(f"{number:,.0f}", f"{number:.0f}")


def estimate_cell(
    row: pd.Series, prefix: str = "", *, value: str = "", percent: bool = False
) -> TableCell:
    """Returns a value with its interval; `prefix` and `value` name its columns."""
    number, lower, upper = (
        row[value or f"{prefix}value"],
        row[f"{prefix}lower"],
        row[f"{prefix}upper"],
    )
    if pd.isna(number):
        return TableCell("not measurable", "")
    style = ".1%" if percent else ".3f" if abs(number) < 100 else ".1f"
    text = format(number, style)
    if pd.notna(lower) and pd.notna(upper):
        text += f" [{format(lower, style)}, {format(upper, style)}]"
    return TableCell(text, f"{number:.9g}")
