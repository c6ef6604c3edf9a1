"""Token statistics of a whole pass on disk, of which a shard of records at a time is in memory.

One Arrow file per pass, in record batches of :data:`SHARD_RECORDS` records in the records' order.
It is mapped for each read and let go after it, so that memory holds no page of an earlier shard.
"""

import json
import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from audits.scoring.owned_file import OwnedFile
from audits.scoring.token_statistics import (
    COLUMNS,
    SHARD_RECORDS,
    StatisticsKey,
    TokenStatistics,
    places_of,
    shard_places,
)
from common.atomic_file import replacing
from common.errors import UserError

_RECORD = "record"
_FACTS = "facts"


@dataclass(frozen=True, eq=False)
class StatisticsFile:
    """Token statistics of N records, or of a selection of those that a file holds.

    Attributes:
        record_ids: N distinct ids.
        lengths: Scored tokens of each record, [N] int64.
        file: Arrow file, closed with the last selection of its records.
        rows: Row of each record in the file, [N] int64.
        key: What the statistics were computed from, None if unknown.
        facts: Numbers about the scored text that no column tells.
    """

    record_ids: tuple[str, ...]
    lengths: Tensor
    file: OwnedFile
    rows: Tensor
    key: StatisticsKey | None = None
    facts: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.record_ids)

    def take(self, places: Tensor) -> "StatisticsFile":
        """Returns the records at some places, [K] int64, in the order given, without reading."""
        return StatisticsFile(
            tuple(self.record_ids[place] for place in places.tolist()),
            self.lengths[places],
            self.file,
            self.rows[places],
            self.key,
            self.facts,
        )

    def select(self, record_ids: Sequence[str]) -> "StatisticsFile":
        """Returns the records asked for, in the order asked for, without reading.

        Raises:
            ValueError: If a record is not in the table.
        """
        return self.take(places_of(self.record_ids, record_ids))

    def read(self) -> TokenStatistics:
        """Returns all the records in memory: take a shard of them first."""
        mapped = mmap.mmap(self.file.descriptor, 0, access=mmap.ACCESS_READ)
        reader = pa.ipc.open_file(pa.py_buffer(mapped))
        names = [name for name in COLUMNS if name in reader.schema.names]
        parts: dict[str, list[Tensor]] = {
            name: [_values(reader.schema.field(name).type)] for name in names
        }
        batches, counts = torch.unique_consecutive(self.rows // SHARD_RECORDS, return_counts=True)
        rows = (self.rows % SHARD_RECORDS).split(counts.tolist()) if len(self) else ()
        for number, within in zip(batches.tolist(), rows, strict=True):
            batch = reader.get_batch(number)
            first, n_rows = int(within[0]), len(within)
            if bool((within.diff() == 1).all()):
                batch = batch.slice(first, n_rows)  # copies nothing
            else:
                batch = batch.take(pa.array(within.numpy()))
            for name in names:
                parts[name].append(_tensor(batch.column(name)))
        columns = {name: torch.cat(pieces) for name, pieces in parts.items()}
        return TokenStatistics.of_columns(
            self.record_ids, self.lengths, columns, self.key, self.facts
        )

    def shards(self, n_records: int = SHARD_RECORDS) -> Iterator[TokenStatistics]:
        """Yields the table in parts of so many records, read one after the other."""
        for places in shard_places(len(self), n_records):
            yield self.take(places).read()


def write_statistics(
    parts: Iterable[TokenStatistics],
    file: BinaryIO,
    key: StatisticsKey | None = None,
    facts: Mapping[str, float] | None = None,
    compression: str | None = None,
) -> None:
    """Writes a pass.

    Args:
        parts: At least one table; all but the last of :data:`SHARD_RECORDS` records.
        file: Where to.
        key: What the statistics were computed from; kept in the file with the facts.
        facts: See :class:`StatisticsFile`.
        compression: Of what is to be kept; None for what is read again soon.
    """
    metadata = {_FACTS: json.dumps(dict(facts or {}), sort_keys=True)}
    if key is not None:
        metadata |= {part.name: getattr(key, part.name) for part in fields(StatisticsKey)}
    writer = None
    for part in parts:
        batch = _batch(part)
        if writer is None:
            options = pa.ipc.IpcWriteOptions(compression=compression)
            schema = batch.schema.with_metadata(metadata)
            writer = pa.ipc.new_file(file, schema, options=options)
        writer.write_batch(batch)
    if writer is None:
        raise ValueError("a pass over no record has no statistics")
    writer.close()
    file.flush()


def save_statistics(table: TokenStatistics | StatisticsFile, path: Path) -> None:
    """Writes a table that is to be kept, compressed, with its key; atomically.

    Raises:
        ValueError: If the table has no key: nobody could tell later what it describes.
    """
    if table.key is None:
        raise ValueError("a table without a key cannot be saved")
    with replacing(path) as file:
        write_statistics(table.shards(SHARD_RECORDS), file, table.key, table.facts, "zstd")


def open_statistics(path: Path, expected: StatisticsKey | None = None) -> StatisticsFile:
    """Opens what :func:`save_statistics` wrote.

    Args:
        path: The Arrow file.
        expected: What the table must have been computed from; None accepts anything.

    Raises:
        UserError: If the file is missing, no such table, or computed from something else.
    """
    try:
        found = _opened(OwnedFile(path.open("rb")))
    except FileNotFoundError as error:
        raise UserError(f"there are no token statistics at {path}: correct the path") from error
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise UserError(f"{path} is no table of token statistics ({error})") from error
    for part in fields(StatisticsKey) if expected is not None else ():
        known, wanted = getattr(found.key, part.name), getattr(expected, part.name)
        if known != wanted:
            raise UserError(
                f"{path} was computed from another {part.name} ({known[:12]}, expected "
                f"{wanted[:12]}): score again or name the table that belongs to it"
            )
    return found


def _opened(file: OwnedFile) -> StatisticsFile:
    mapped = mmap.mmap(file.descriptor, 0, access=mmap.ACCESS_READ)
    reader = pa.ipc.open_file(pa.py_buffer(mapped))
    metadata = reader.schema.metadata or {}
    key = StatisticsKey(*(metadata[part.name.encode()].decode() for part in fields(StatisticsKey)))
    facts = json.loads(metadata[_FACTS.encode()])
    record_ids: list[str] = []
    lengths = []
    for number in range(reader.num_record_batches):
        batch = reader.get_batch(number)
        record_ids += batch.column(_RECORD).to_pylist()
        lengths.append(_lengths(batch.column(COLUMNS[0])))
    sizes = [len(part) for part in lengths]
    if any(size != SHARD_RECORDS for size in sizes[:-1]) or sizes[-1] > SHARD_RECORDS:
        raise ValueError(f"its batches are not of {SHARD_RECORDS} records")
    rows = torch.arange(len(record_ids))
    return StatisticsFile(tuple(record_ids), torch.cat(lengths), file, rows, key, facts)


def _batch(table: TokenStatistics) -> pa.RecordBatch:
    offsets = pa.array(table.offsets.numpy(), pa.int32())
    columns = {_RECORD: pa.array(table.record_ids, pa.string())}
    for name, column in table.columns().items():
        kind = pa.float32() if column.dtype == torch.float32 else pa.float64()
        # Ranks and ids are below the size of a vocabulary.
        values = pa.array(column.numpy(), kind if column.is_floating_point() else pa.int32())
        columns[name] = pa.ListArray.from_arrays(offsets, values)
    return pa.RecordBatch.from_pydict(columns)


def _tensor(column: pa.ListArray) -> Tensor:
    values = column.flatten().to_numpy(zero_copy_only=False)
    return torch.from_numpy(values.astype(_values(column.type).numpy().dtype))


def _values(kind: pa.ListType) -> Tensor:
    """No value, of the type in which a column is in memory."""
    dtypes = {pa.float32(): torch.float32, pa.float64(): torch.float64, pa.int32(): torch.int64}
    return torch.empty(0, dtype=dtypes[kind.value_type])


def _lengths(column: pa.ListArray) -> Tensor:
    return torch.from_numpy(column.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64))
