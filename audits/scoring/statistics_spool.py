"""Takes the tables of a pass batch by batch, and puts them in the records' order on disk."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from audits.scoring.owned_file import OwnedFile
from audits.scoring.statistics_file import StatisticsFile, write_statistics
from audits.scoring.token_statistics import (
    SHARD_RECORDS,
    StatisticsKey,
    TokenStatistics,
    shard_places,
)


class StatisticsSpool:
    """A pass on its way to disk.

    Batches are of records of similar length, shards of records in their order. What a batch gives
    is appended to one nameless file, record by record; from there the shards are collected into
    another.

    Args:
        record_ids: The N records, in the order in which they are to be read.
        folder: Where the files lie; None is the system's folder for temporary files.
    """

    def __init__(self, record_ids: Sequence[str], folder: Path | None = None) -> None:
        self._record_ids = tuple(record_ids)
        self._folder = folder
        self._file = OwnedFile.nameless(folder)
        self._written = 0
        self._starts = np.full(len(record_ids), -1, dtype=np.int64)
        self._lengths = np.zeros(len(record_ids), dtype=np.int64)
        self._token: np.dtype[np.void] | None = None

    def append(self, places: Sequence[int], table: TokenStatistics) -> None:
        """Takes a table.

        Args:
            places: Place among the N records of each of the table's records.
            table: Statistics of these records.

        Raises:
            ValueError: If a record was scored twice, or the table's records or columns are others.
        """
        if table.record_ids != tuple(self._record_ids[place] for place in places):
            raise ValueError("the table is not of the records at these places")
        if bool((self._starts[list(places)] >= 0).any()):
            raise ValueError("a record was scored twice")
        columns = {name: column.numpy() for name, column in table.columns().items()}
        token = np.dtype([(name, _stored(values.dtype)) for name, values in columns.items()])
        if self._token not in (None, token):
            raise ValueError("a pass needs the same columns in every batch")
        self._token = token
        tokens = np.empty(int(table.offsets[-1]), dtype=token)
        for name, values in columns.items():
            tokens[name] = values
        self._file.stream.write(tokens.tobytes())
        self._starts[list(places)] = self._written + table.offsets[:-1].numpy()
        self._lengths[list(places)] = table.lengths.numpy()
        self._written += tokens.size

    def finish(self, key: StatisticsKey | None = None) -> StatisticsFile:
        """Returns the pass, and drops what it was collected in.

        Raises:
            ValueError: If there is no record, or one was not scored.
        """
        missing = np.flatnonzero(self._starts < 0)
        if missing.size:
            first = self._record_ids[missing[0]]
            raise ValueError(f"{missing.size} records were not scored, first {first!r}")
        self._file.stream.flush()
        file = OwnedFile.nameless(self._folder)
        write_statistics(self._shards(), file.stream)
        self._file.stream.close()
        rows = torch.arange(len(self._record_ids))
        return StatisticsFile(self._record_ids, torch.from_numpy(self._lengths), file, rows, key)

    def _shards(self) -> Iterator[TokenStatistics]:
        for places in shard_places(len(self._record_ids), SHARD_RECORDS):
            chosen = places.numpy()
            tokens = self._read(self._starts[chosen], self._lengths[chosen])
            columns = {
                name: torch.from_numpy(tokens[name].astype(_in_memory(tokens[name].dtype)))
                for name in tokens.dtype.names or ()
            }
            record_ids = self._record_ids[chosen[0] : chosen[-1] + 1]
            lengths = torch.from_numpy(self._lengths[chosen])
            yield TokenStatistics.of_columns(record_ids, lengths, columns, None, {})

    def _read(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.void]:
        assert self._token is not None
        size = self._token.itemsize
        pieces = [
            os.pread(self._file.descriptor, int(length) * size, int(start) * size)
            for start, length in zip(starts, lengths, strict=True)
        ]
        return np.frombuffer(b"".join(pieces), dtype=self._token)


def _stored(kind: np.dtype) -> np.dtype:
    """Ranks and ids, all the integers there are, are below the size of a vocabulary."""
    return kind if kind.kind == "f" else np.dtype(np.int32)


def _in_memory(kind: np.dtype) -> np.dtype:
    return kind if kind.kind == "f" else np.dtype(np.int64)
