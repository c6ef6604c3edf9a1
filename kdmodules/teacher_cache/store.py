"""Rows of tensors by text in safetensors files, in which teachers are cached.

A store is a folder: `index.json`, and safetensors files with the rows of some texts or with arrays
that belong to no text. Every rank writes files of its own. The index comes last, with a hash of
each file, and the folder gets its name once everything is on disk, so that a store is whole or not
there.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from common.atomic_file import replacing
from common.errors import UserError, first_line
from kdmodules.teacher_cache.identity import file_hash

INDEX = "index.json"
_OPEN_FILES = 4096

Span = tuple[str, int, int]
"""Where the rows of a text are: the file's name, the first row there, and the number of rows."""


def begin(unfinished: Path) -> None:
    """Makes an empty folder for a store, in place of what a killed process left there."""
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(parents=True, mode=0o700)


def write_tensors(unfinished: Path, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Writes a file of tensors, which is on disk afterwards.

    Args:
        unfinished: Folder of the store.
        name: Of the file, without its ending.
        tensors: By name; columns of texts are [N, width].
    """
    path = _file(unfinished, name)
    save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, path)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def finish(
    unfinished: Path, path: Path, spans: Mapping[str, Span], about: Mapping[str, object]
) -> None:
    """Writes the index and gives a store its name.

    Args:
        unfinished: Folder that all ranks wrote to; gone afterwards.
        path: Name of the store.
        spans: Where the rows of every text are.
        about: What the store was made from, for its reader.

    Raises:
        UserError: If a file is not there, because the folder is another one on another node.
    """
    for name in sorted({file for file, _, _ in spans.values()}):
        if not _file(unfinished, name).is_file():
            raise UserError(
                f"{name} of {path} was written elsewhere by its rank: model.teacher_cache.folder "
                "must be a folder that all nodes share"
            )
    hashes = {file.name: file_hash(file) for file in unfinished.iterdir()}
    index = {"about": dict(about), "texts": dict(spans), "files": hashes}
    with replacing(unfinished / INDEX) as file:
        file.write(json.dumps(index).encode())
    os.rename(unfinished, path)


def damage_of(path: Path) -> str | None:
    """Says what has befallen a store since it was written; None where all of it is as it was.

    Args:
        path: Its folder, of which every file is read.
    """
    try:
        hashes = _read_index(path)["files"]
        altered = [name for name, known in hashes.items() if file_hash(path / name) != known]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"cannot be read ({first_line(error)})"
    return f"is damaged ({altered[0]} is not what was written)" if altered else None


def _read_index(path: Path) -> dict[str, Any]:
    return json.loads((path / INDEX).read_text(encoding="utf-8"))


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


class Store:
    """A store that is whole; its files are mapped into memory where they are read.

    Args:
        path: Its folder.

    Attributes:
        about: What it was made from.

    Raises:
        UserError: If a file is missing or cut short; `damage_of` finds what is altered.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._empty: dict[str, Tensor] = {}
        self._opened = lru_cache(_OPEN_FILES)(
            lambda name: safe_open(_file(path, name), framework="pt")
        )
        try:
            index = _read_index(path)
            self.about: dict[str, Any] = index["about"]
            self._spans: dict[str, Span] = index["texts"]
            for name in {file for file, _, _ in self._spans.values()}:
                with safe_open(_file(path, name), framework="pt") as opened:
                    self._empty = {key: opened.get_slice(key)[:0] for key in opened.keys()}
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise UserError(
                f"the cached teacher in {path} cannot be read ({error}): delete that folder to "
                "have it written anew"
            ) from error

    def __contains__(self, text: str) -> bool:
        return text in self._spans

    def __len__(self) -> int:
        return len(self._spans)

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns, sorted."""
        return sorted(self._empty)

    @property
    def n_rows(self) -> int:
        """Rows of all texts together."""
        return sum(count for _, _, count in self._spans.values())

    @property
    def disk_bytes(self) -> int:
        """Size of all files."""
        return sum(file.stat().st_size for file in self.path.iterdir())

    def rows(self, column: str, texts: Sequence[str]) -> Tensor:
        """Returns [N, width] the texts' rows of a column in the order given, a copy.

        Raises:
            KeyError: If a text is not there.
        """
        parts = [self._empty[column]]
        for file, start, count in (self._spans[text] for text in texts):
            rows = self._opened(file).get_slice(column)
            parts.append(rows[start : start + count])
        return torch.cat(parts)

    def array(self, name: str) -> Tensor:
        """Reads a tensor that belongs to no text, from the file of its name."""
        with safe_open(_file(self.path, name), framework="pt") as opened:
            return opened.get_tensor(name)
