"""An open file that closes with its last reader."""

import tempfile
import weakref
from pathlib import Path
from typing import BinaryIO


class OwnedFile:
    """A file shared by several readers, closed when the last of them lets go of it.

    Readers of a pass are views of one another and leave at times that nobody knows beforehand; an
    open file without an owner is closed by the garbage collector, some time, with a warning.

    Args:
        stream: The open file.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        weakref.finalize(self, stream.close)

    @classmethod
    def nameless(cls, folder: Path | None) -> "OwnedFile":
        """Opens a new file without a name: nothing private stays, whatever ends the process.

        Args:
            folder: On whose file system it lies; None is the system's folder for temporary files.
        """
        return cls(tempfile.TemporaryFile(dir=folder))

    @property
    def descriptor(self) -> int:
        """The open file's number, for reads at a place and for mapping."""
        return self.stream.fileno()
