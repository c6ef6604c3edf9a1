"""Files that readers see whole or not at all."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_OTHERS = 0o077


def beside(path: Path) -> Path:
    """Returns where a file is written before it takes a path's place.

    One fixed name in the same folder: what a kill leaves behind is overwritten by the next attempt
    and never piles up, and the move is one step on every file system.
    """
    return path.with_name(f".{path.name}.tmp")


def make_private(folder: Path) -> Path:
    """Makes a folder that its owner alone can enter.

    One that others could enter so far is closed, with all that lies in it.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_mode & _OTHERS:
        for path in (folder, *folder.rglob("*")):
            if not path.is_symlink():
                path.chmod(stat.S_IMODE(path.stat().st_mode) & ~_OTHERS)
    return folder


def open_alike(folder: Path, example: Path) -> None:
    """Gives every file in a folder the mode of one of them.

    Some libraries close their files to all but the owner, whatever the umask.
    """
    mode = stat.S_IMODE(example.stat().st_mode)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


@contextmanager
def replacing(path: Path, *, private: bool = False, shared: bool = False) -> Iterator[BinaryIO]:
    """Opens a file that takes a path's place when the block has ended without an error.

    Args:
        path: Where the file will be; its folder is made.
        private: Only its owner may read the file, and enter a folder that is made.
        shared: Several processes may write it at once, each under a name of its own; otherwise
            there is one writer, rank 0.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if private else 0o777)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp") if shared else beside(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        descriptor = os.open(temporary, flags, 0o600 if private else 0o666)
        with naming(path), os.fdopen(descriptor, "wb") as file:
            if private:  # what a killed process left may be open to others
                os.fchmod(file.fileno(), 0o600)
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    put_in_place(temporary, path)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Names a file in what its system refuses: of an open one, such as on a full disk, it does not
    tell."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


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
