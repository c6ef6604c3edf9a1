"""Locks of files that the kernel frees however a process ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import UserError
from common.options import make_folder

_ID_BYTES = 20
_NAME = ".writer"


def try_lock(descriptor: int) -> bool:
    """Takes the lock of an open file; returns whether nobody else holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_holder(descriptor: int) -> None:
    """Writes this process's id into a lock file.

    A process that inherits a lock calls it before its program: only so is the id on disk from the
    first moment on at which it can outlive who started it.
    """
    os.pwrite(descriptor, f"{os.getpid():<{_ID_BYTES}}".encode(), 0)


def read_holder(descriptor: int) -> int:
    """Returns the id of the process that wrote it into a lock file."""
    return int(os.pread(descriptor, _ID_BYTES, 0))


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keeps a second process from writing into a folder while the block runs.

    Args:
        folder: The folder; made if it is not there.

    Raises:
        UserError: Another process writes there, which is named; or it cannot be made.
    """
    make_folder("run_dir", folder)
    descriptor = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not try_lock(descriptor):
            holder = os.pread(descriptor, _ID_BYTES, 0).decode("ascii", "replace").strip()
            raise UserError(
                f"process {holder or 'unknown'} is writing into {folder}: wait for its end, or "
                "give another --run_dir"
            )
        write_holder(descriptor)
        yield
    finally:
        os.close(descriptor)
