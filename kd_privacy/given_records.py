"""Records as a caller of `kd_privacy.audit` gives them: a path, a data set, rows or records."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from datasets import Dataset, DatasetDict
from pandas import DataFrame

from common.errors import UserError
from datamodules.records import InstructionRecord, read_records, records_from_rows

Turns: TypeAlias = Sequence[Mapping[str, object]]
Records: TypeAlias = (
    str | Path | Dataset | Sequence[InstructionRecord | Mapping[str, object] | Turns | str]
)
"""A file, a folder of `save_to_disk` or a hub name; a data set; a list of rows, of records, of
conversations (each a list of messages) or of texts."""


def given_records(
    records: Records,
    side: str,
    default_task: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> list[InstructionRecord]:
    """Returns the records of one side; those with an empty response are kept, and skipped later.

    Args:
        records: See `Records`; the fields of a row are those of `datamodules.records.read_records`.
        side: members or nonmembers, which errors name.
        default_task: Task of rows without a category; None leaves them without one.
        columns: Fields of a record that have other names in the rows -> those names.

    Raises:
        UserError: Rows that are no records, with their place.
    """
    if isinstance(records, str | Path):
        return read_records(
            str(records), allow_empty_response=True, default_task=default_task, columns=columns
        )
    if isinstance(records, DatasetDict):
        raise UserError(f"{side} holds the splits {', '.join(records)}: give one of them")
    if isinstance(records, Mapping | DataFrame) or not isinstance(records, Iterable):
        raise UserError(
            f"{side} is a {type(records).__name__}: give a path, a datasets.Dataset or a list of "
            "rows"
        )
    rows = [_placed(f"{side}[{index}]", row) for index, row in enumerate(records)]
    return records_from_rows(rows, side, True, default_task, columns)


def _placed(place: str, row: object) -> tuple[str, Mapping[str, object]]:
    """Returns where a row stands, and its fields; a record is checked as a row of a file is.

    Raises:
        UserError: It is none; with its place and kind.
    """
    if isinstance(row, InstructionRecord):
        return row.origin or place, row.row
    if isinstance(row, str):
        return place, {"text": row}
    if isinstance(row, list | tuple):
        return place, {"messages": row}
    if not isinstance(row, Mapping):
        raise UserError(f"{place} is a {type(row).__name__}: give rows, messages or texts")
    if {"role", "content"} <= set(row):
        raise UserError(f"{place} is one message: give a list of messages for each record")
    return place, row
