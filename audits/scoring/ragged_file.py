"""Rows of numbers of many records in one file, of which those of a few records are in memory."""

import os
import tempfile
import weakref
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray


class RaggedFile:
    """Numbers of one type in an open file, read by where a record's first one stands.

    Readers are views of one another and leave at times that nobody knows beforehand, so the file
    closes with the last of them; left to the garbage collector alone it would do so with a warning.

    Args:
        stream: The open file.
        dtype: Type of a number, or of a row of several.
        first_byte: Where the numbers begin.
    """

    def __init__(self, stream: BinaryIO, dtype: DTypeLike, first_byte: int = 0) -> None:
        self._stream = stream
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self._first_byte = first_byte
        self._written = 0
        weakref.finalize(self, stream.close)

    @classmethod
    def nameless(cls, dtype: DTypeLike, folder: Path | None) -> "RaggedFile":
        """Opens a new file without a name: nothing private stays, whatever ends the process.

        Args:
            dtype: Type of a number.
            folder: On whose file system it lies; None is the system's folder for temporary files.
        """
        return cls(tempfile.TemporaryFile(dir=folder), dtype)

    def append(self, numbers: NDArray[Any]) -> int:
        """Writes numbers after all others and returns how many stand before them.

        Raises:
            ValueError: If they are of another type.
        """
        if numbers.dtype != self.dtype:
            raise ValueError(f"the file holds {self.dtype}, found {numbers.dtype}")
        self._stream.write(numbers.tobytes())
        self._stream.flush()
        start = self._written
        self._written += numbers.size
        return start

    def read(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[Any]:
        """Returns the numbers of some records, one record after the other.

        Args:
            starts: [K] how many numbers stand before each record's first.
            lengths: [K] how many each record has.
        """
        size, descriptor = self.dtype.itemsize, self._stream.fileno()
        pieces = [
            os.pread(descriptor, length * size, self._first_byte + start * size)
            for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
        ]
        return np.frombuffer(b"".join(pieces), dtype=self.dtype)
