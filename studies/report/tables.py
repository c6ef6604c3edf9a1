"""A table of the page: text for people, keys for sorting, and CSV with every column.

A table is made of columns, each of which says how it reads a cell from a row of a frame.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd

from common.wording import estimate_text, inert_cell, p_value_text

ESTIMATE = ["value", "lower", "upper", "n_members", "n_nonmembers"]
"""Columns of an estimate with its counts."""


@dataclass(frozen=True)
class TableCell:
    """A cell's text and, in a numeric column, its sorting key (empty where not measured)."""

    text: str
    key: str | None = None


@dataclass(frozen=True)
class Column:
    """A heading, and how a row's cell is made; numeric columns align right and sort by keys."""

    title: str
    cell: Callable[[pd.Series], TableCell]
    numeric: bool = True


@dataclass(frozen=True)
class PageTable:
    """A table for the page, and the frame that goes to CSV.

    Attributes:
        name: Name of its files.
        caption: What it shows.
        columns: Its columns.
        rows: A cell for each column.
        frame: What goes to CSV.
        apart: Whether it stands with the others at the page's end.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[TableCell]]
    frame: pd.DataFrame
    apart: bool = True

    def csv(self) -> str:
        """Returns the frame as CSV, numbers in full, and no text that a spreadsheet would run."""
        text = io.StringIO()
        frame = self.frame.apply(lambda column: column.map(_inert, na_action="ignore"))
        frame.to_csv(text, index=False, quoting=csv.QUOTE_MINIMAL, lineterminator="\n")
        return text.getvalue()


def table(
    name: str,
    caption: str,
    columns: Sequence[Column],
    shown: pd.DataFrame,
    frame: pd.DataFrame,
    *,
    apart: bool = True,
) -> PageTable:
    """Returns a table of the rows of `shown`; `frame` goes to CSV."""
    rows = [[column.cell(row) for column in columns] for _, row in shown.iterrows()]
    return PageTable(name, caption, columns, rows, frame, apart)


def words(notes: Mapping[str, str] | None = None, /, **titles: str) -> list[Column]:
    """Columns of words, a dash where there are none.

    Args:
        notes: What stands in brackets behind a name, by name: what ran, behind names of runs.
        titles: Headings by column of the frame.
    """

    def cell(row: pd.Series, column: str) -> TableCell:
        text = "—" if pd.isna(row[column]) else str(row[column])
        return TableCell(f"{text} ({notes[text]})" if notes and text in notes else text)

    return [
        Column(title, partial(cell, column=column), numeric=False)
        for column, title in titles.items()
    ]


def spoken(names: pd.Series) -> pd.Series:
    """Returns names, as of tasks, as they are read: without underscores; none stays none."""
    return names.map(lambda name: str(name).replace("_", " "), na_action="ignore")


def number(title: str, column: str, style: str = ",.0f", *, text: str = "") -> Column:
    """A column of numbers, a dash where there is none.

    Args:
        title: Its heading.
        column: Column of the frame.
        style: Format of the numbers.
        text: Column of what is written in their place.
    """

    def cell(row: pd.Series) -> TableCell:
        value = row[column]
        if pd.isna(value):
            return TableCell("—", "")
        return TableCell(row[text] if text else f"{value:{style}}", _key(value))

    return Column(title, cell)


def counts(replicated: bool, **titles: str) -> list[Column]:
    """Columns of counts by column of the frame, of replicates first where there are several."""
    shown = {"replicates": "Replicates"} if replicated else {}
    shown |= titles or {"n_members": "Private", "n_nonmembers": "Held out"}
    return [number(title, column) for column, title in shown.items()]


def p_value(title: str = "p", column: str = "p_value") -> Column:
    """A column of p-values, a dash where there is no test."""

    def cell(row: pd.Series) -> TableCell:
        value = row[column]
        if pd.isna(value):
            return TableCell("—", "")
        return TableCell(p_value_text(value).removeprefix("p = ").removeprefix("p "), _key(value))

    return Column(title, cell)


def estimate(title: str, prefix: str = "", *, value: str = "") -> Column:
    """A column of values with their intervals, a dash where `PREFIXknown` is null.

    Args:
        title: Its heading.
        prefix: Before `value`, `lower` and `upper` in the names of the frame's columns.
        value: Name of the value's column, if another.
    """

    def cell(row: pd.Series) -> TableCell:
        if pd.isna(row.get(f"{prefix}known", True)):
            return TableCell("—", "")
        return estimate_cell(row, prefix, value=value)

    return Column(title, cell)


def estimate_cell(
    row: pd.Series, prefix: str = "", *, value: str = "", style: str = ""
) -> TableCell:
    """Returns a value with its interval; without a `style`, a large one has one decimal."""
    figure, lower, upper = (
        row[name] for name in (value or f"{prefix}value", f"{prefix}lower", f"{prefix}upper")
    )
    style = style or (".1f" if pd.notna(figure) and abs(figure) >= 100 else ".3f")
    return TableCell(estimate_text(figure, lower, upper, style), _key(figure))


def _key(value: float | None) -> str:
    return "" if pd.isna(value) else f"{value:.9g}"


def _inert(value: object) -> object:
    return inert_cell(value) if isinstance(value, str) else value
