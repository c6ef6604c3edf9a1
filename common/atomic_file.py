"""Files that readers see whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def beside(path: Path) -> Path:
    """Returns where a file is written before it takes a path's place.

    One fixed name in the same folder: what a kill leaves behind is overwritten by the next attempt
    and never piles up, and the move is one step on every file system.
    """
    return path.with_name(f".{path.name}.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that takes a path's place when the block has ended without an error.

    There is one writer, rank 0.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path)
    with temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    put_in_place(temporary, path)


def put_in_place(finished: Path, path: Path) -> None:
    """Moves a finished file of the same folder to a path, in the place of what lies there.

    Some strategies write a folder instead. It takes the place of an earlier one, which is removed
    just before.
    """
    if path.is_dir():
        shutil.rmtree(path)
    os.replace(finished, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
