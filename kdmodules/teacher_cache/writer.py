"""Writing a store: parts of all ranks, then the index, then the name."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from kdmodules.teacher_cache.store import INDEX, Column, Span, part_name


class PartWriter:
    """Writes one rank's rows; its files are closed, and on disk, when the context ends.

    Args:
        folder: Of the unfinished store; there already.
        part: This rank.
    """

    def __init__(self, folder: Path, part: int) -> None:
        self.folder = folder
        self.part = part
        self.columns: dict[str, Column] = {}
        self.spans: dict[str, Span] = {}
        self._files: dict[str, IO[bytes]] = {}
        self._open = ExitStack()
        self._rows = 0

    def __enter__(self) -> "PartWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._open:
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())

    def add(self, record: str, rows: Mapping[str, Tensor]) -> None:
        """Appends the rows of a record.

        Args:
            record: Its key.
            rows: [n, width] by column, the same columns and widths in every call.
        """
        counts = {len(values) for values in rows.values()}
        if len(counts) != 1:
            raise ValueError(f"columns of {record} have {sorted(counts)} rows")
        for name, values in rows.items():
            column = Column(values.shape[1], str(values.dtype).removeprefix("torch."))
            if self.columns.setdefault(name, column) != column:
                raise ValueError(f"{name} has rows of {column}, before {self.columns[name]}")
            self._file(name).write(_as_bytes(values))
        (count,) = counts
        self.spans[record] = Span(self.part, self._rows, count)
        self._rows += count

    def _file(self, name: str) -> IO[bytes]:
        if name not in self._files:
            path = self.folder / part_name(name, self.part)
            self._files[name] = self._open.enter_context(path.open("wb"))
        return self._files[name]


def write_array(folder: Path, name: str, values: Tensor) -> None:
    """Writes an array that belongs to no record, in float32."""
    with (folder / f"{name}.npy").open("wb") as file:
        np.save(file, values.detach().float().cpu().numpy())
        file.flush()
        os.fsync(file.fileno())


def _as_bytes(values: Tensor) -> memoryview:
    whole = values.detach().cpu().contiguous()
    if whole.numel() == 0:
        return memoryview(b"")
    return whole.reshape(-1).view(torch.uint8).numpy().data


def finish(
    unfinished: Path,
    path: Path,
    parts: Sequence[tuple[Mapping[str, Column], Mapping[str, Span]]],
    about: Mapping[str, object],
) -> None:
    """Writes the index and gives a store its name.

    Args:
        unfinished: Folder that the parts were written to; gone afterwards.
        path: Name of the store.
        parts: Columns and spans of every rank, those without a record included.
        about: What the store was made from, for its reader.

    Raises:
        UserError: If a part is not there, because the folder is another one on another node.
    """
    columns: dict[str, Column] = {}
    spans: dict[str, Span] = {}
    for own, found in parts:
        columns.update(own)
        spans.update(found)
    for part in {span.part for span in spans.values()}:
        for name in columns:
            if not (unfinished / part_name(name, part)).is_file():
                raise UserError(
                    f"rank {part} wrote its part of {path} elsewhere: model.teacher_cache.folder "
                    "must be a folder that all nodes share"
                )
    index = {
        "about": dict(about),
        "columns": {name: asdict(column) for name, column in columns.items()},
        "records": {key: [span.part, span.start, span.count] for key, span in spans.items()},
    }
    with (unfinished / INDEX).open("w") as file:
        json.dump(index, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(unfinished, path)


def begin(unfinished: Path) -> None:
    """Makes an empty folder for a store, in place of what a killed process left there."""
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(parents=True, mode=0o700)
