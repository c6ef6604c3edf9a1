"""Token statistics of a whole pass on disk, of which a shard of records at a time is in memory.

One row of numbers a token, record by record in the order in which a pass scored them. While an
audit runs the file has no name; what is kept for good has the records' order and one line of JSON
before the numbers, which names columns, records, their lengths and what was scored.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audits.scoring.ragged_file import RaggedFile
from audits.scoring.token_statistics import (
    SHARD_RECORDS,
    StatisticsKey,
    TokenStatistics,
    shard_places,
)
from common.atomic_file import replacing
from common.errors import UserError
from kdmodules.scoring import TOP_K


@dataclass(frozen=True, eq=False)
class StatisticsFile:
    """Token statistics of N records, or of a selection of those that a file holds.

    Attributes:
        record_ids: N distinct ids.
        lengths: Scored tokens of each record, [N] int64.
        file: The rows of all tokens; closed with the last selection of its records.
        starts: Rows before each record's first, [N].
        key: What the statistics were computed from, None if unknown.
        facts: Numbers about the scored text that no column tells.
    """

    record_ids: tuple[str, ...]
    lengths: Tensor
    file: RaggedFile
    starts: NDArray[np.int64]
    key: StatisticsKey | None = None
    facts: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_batches(
        cls,
        record_ids: Sequence[str],
        batches: Iterable[tuple[Sequence[int], TokenStatistics]],
        folder: Path | None = None,
        key: StatisticsKey | None = None,
    ) -> "StatisticsFile":
        """Puts a pass on disk, batch by batch in any order, in a file without a name.

        Args:
            record_ids: The N records, in the order in which they are to be read.
            batches: Places among the N records, and the statistics of the records there.
            folder: Where the file lies; None is the system's folder for temporary files.
            key: What the statistics are computed from.

        Raises:
            ValueError: If there is no record, one is scored twice or not at all, or a batch is of
                other records or columns.
        """
        starts = np.full(len(record_ids), -1, dtype=np.int64)
        lengths = np.zeros(len(record_ids), dtype=np.int64)
        file: RaggedFile | None = None
        for scored, table in batches:
            places = list(scored)
            if table.record_ids != tuple(record_ids[place] for place in places):
                raise ValueError("the table is not of the records at these places")
            if bool((starts[places] >= 0).any()):
                raise ValueError("a record was scored twice")
            rows = _rows(table)
            file = file or RaggedFile.nameless(rows.dtype, folder)
            starts[places] = file.append(rows) + table.offsets[:-1].numpy()
            lengths[places] = table.lengths.numpy()
        missing = np.flatnonzero(starts < 0)
        if missing.size or file is None:
            first = record_ids[missing[0]] if missing.size else None
            raise ValueError(f"{missing.size} records were not scored, first {first!r}")
        return cls(tuple(record_ids), torch.from_numpy(lengths), file, starts, key)

    def __len__(self) -> int:
        return len(self.record_ids)

    @property
    def has_outside_top(self) -> bool:
        """Whether it says what is left outside the likeliest tokens."""
        return f"outside_top_{TOP_K[0]}" in (self.file.dtype.names or ())

    def take(self, places: Tensor) -> "StatisticsFile":
        """Returns the records at some places, [K] int64, in the order given, without reading."""
        record_ids = tuple(self.record_ids[place] for place in places.tolist())
        starts = self.starts[places.numpy()]
        return StatisticsFile(
            record_ids, self.lengths[places], self.file, starts, self.key, self.facts
        )

    def read(self) -> TokenStatistics:
        """Returns all the records in memory: take a shard of them first."""
        rows = self.file.read(self.starts, self.lengths.numpy())
        columns = {
            name: torch.from_numpy(rows[name].astype(np.int64 if kind.kind == "i" else kind))
            for name, (kind, *_) in (rows.dtype.fields or {}).items()
        }
        return TokenStatistics.of_columns(
            self.record_ids, self.lengths, columns, self.key, self.facts
        )

    def shards(self, n_records: int = SHARD_RECORDS) -> Iterator[TokenStatistics]:
        """Yields the table in parts of so many records, read one after the other."""
        for places in shard_places(len(self), n_records):
            yield self.take(places).read()


def save_statistics(table: TokenStatistics | StatisticsFile, path: Path) -> None:
    """Writes a table that is to be kept, with its key; atomically.

    Raises:
        ValueError: If the table has no key: nobody could tell later what it describes.
    """
    if table.key is None:
        raise ValueError("a table without a key cannot be saved")
    columns = _rows(table.take(torch.arange(0)).read()).dtype
    about = {
        "columns": columns.descr,
        "key": asdict(table.key),
        "facts": dict(table.facts),
        "records": table.record_ids,
        "lengths": table.lengths.tolist(),
    }
    with replacing(path) as file:
        file.write(json.dumps(about).encode() + b"\n")
        for shard in table.shards():
            file.write(_rows(shard).tobytes())


def open_statistics(path: Path) -> StatisticsFile:
    """Opens what :func:`save_statistics` wrote.

    Raises:
        UserError: If the file is missing, or no such table.
    """
    try:
        return _opened(path)
    except FileNotFoundError as error:
        raise UserError(f"there are no token statistics at {path}: correct the path") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is no table of token statistics of this version ({error}): audit again"
        ) from error


def _opened(path: Path) -> StatisticsFile:
    with path.open("rb") as stream:
        line = stream.readline()
    about = json.loads(line)
    lengths = torch.tensor(about["lengths"], dtype=torch.int64)
    columns = np.dtype([(name, kind) for name, kind in about["columns"]])
    if path.stat().st_size != len(line) + int(lengths.sum()) * columns.itemsize:
        raise ValueError("its size is not that of its records")
    file = RaggedFile(path.open("rb"), columns, first_byte=len(line))
    starts = (lengths.cumsum(dim=0) - lengths).numpy()
    key = StatisticsKey(**about["key"])
    return StatisticsFile(tuple(about["records"]), lengths, file, starts, key, about["facts"])


def _rows(table: TokenStatistics) -> NDArray[Any]:
    """Returns one row of all columns for every token, as they lie on disk.

    Ranks and ids, all the integers there are, are below the size of a vocabulary.
    """
    columns = {name: column.numpy() for name, column in table.columns().items()}
    kinds = [
        (name, values.dtype if values.dtype.kind == "f" else np.dtype(np.int32))
        for name, values in columns.items()
    ]
    rows = np.empty(int(table.offsets[-1]), dtype=kinds)
    for name, values in columns.items():
        rows[name] = values
    return rows
