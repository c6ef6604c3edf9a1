"""Rows of tensors by record in files that are mapped into memory, in which teachers are cached.

A store is a folder: `index.json`, one file of raw little-endian values for each column and part,
and arrays that belong to no record. Every rank writes a part of its own. The index comes last, and
the folder gets its name once everything is on disk, so that a store is whole or not there.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import UserError

INDEX = "index.json"
# NumPy has no bfloat16: its bits are kept as integers.
_BITS: Mapping[torch.dtype, str] = {
    torch.float32: "<f4",
    torch.bfloat16: "<i2",
    torch.int32: "<i4",
}
_TYPES = {str(dtype).removeprefix("torch."): dtype for dtype in _BITS}


@dataclass(frozen=True)
class Column:
    """What every row of a column is.

    Attributes:
        width: Values of a row.
        dtype: float32, bfloat16 or int32.
    """

    width: int
    dtype: str


@dataclass(frozen=True)
class Span:
    """Where the rows of a record are.

    Attributes:
        part: Rank that wrote them.
        start: First row in that part.
        count: Number of rows.
    """

    part: int
    start: int
    count: int


def part_name(column: str, part: int) -> str:
    """Returns the name of the file that holds a part of a column."""
    return f"{column}.{part}.bin"


class Store:
    """A store that is whole, mapped into memory.

    Args:
        path: Its folder.

    Attributes:
        about: What it was made from.
        columns: What its rows are, by name.

    Raises:
        UserError: If a file is missing or has another size than the index says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            index = json.loads((path / INDEX).read_text())
            self.about: dict[str, object] = index["about"]
            self.columns = {name: Column(**one) for name, one in index["columns"].items()}
            self._spans = {key: Span(*span) for key, span in index["records"].items()}
            self._maps = self._map()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"the cached teacher in {path} cannot be read ({error}): delete that folder to "
                "have it written anew"
            ) from error

    def _map(self) -> dict[tuple[str, int], NDArray[np.generic]]:
        rows: dict[int, int] = {}
        for span in self._spans.values():
            rows[span.part] = max(rows.get(span.part, 0), span.start + span.count)
        return {
            (name, part): self._mapped(name, part, count)
            for part, count in rows.items()
            for name in self.columns
            if count
        }

    def _mapped(self, name: str, part: int, count: int) -> NDArray[np.generic]:
        column = self.columns[name]
        file, kind = self.path / part_name(name, part), np.dtype(_BITS[_TYPES[column.dtype]])
        expected = count * column.width * kind.itemsize
        if file.stat().st_size != expected:
            raise ValueError(f"{file.name} has {file.stat().st_size} bytes, not {expected}")
        return np.memmap(file, dtype=kind, mode="r", shape=(count, column.width))

    def __contains__(self, record: str) -> bool:
        return record in self._spans

    def __len__(self) -> int:
        return len(self._spans)

    @property
    def n_rows(self) -> int:
        """Rows of all records together."""
        return sum(span.count for span in self._spans.values())

    @property
    def disk_bytes(self) -> int:
        """Size of all files."""
        return sum(file.stat().st_size for file in self.path.iterdir())

    def rows(self, name: str, records: Sequence[str]) -> Tensor:
        """Reads a column.

        Args:
            name: The column.
            records: Keys of records.

        Returns:
            [N, width] the records' rows in the order given, a copy.

        Raises:
            KeyError: If a record is not there.
        """
        column, spans = self.columns[name], [self._spans[record] for record in records]
        dtype = _TYPES[column.dtype]
        found = np.empty((sum(span.count for span in spans), column.width), _BITS[dtype])
        place = 0
        for span in spans:
            if span.count:
                source = self._maps[name, span.part][span.start : span.start + span.count]
                found[place : place + span.count] = source
            place += span.count
        return torch.from_numpy(found).view(dtype)

    def array(self, name: str) -> Tensor:
        """Reads an array that belongs to no record, float32."""
        return torch.from_numpy(np.load(self.path / f"{name}.npy"))
