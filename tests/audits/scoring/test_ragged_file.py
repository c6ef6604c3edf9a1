"""A shared file closes with its last reader, whoever collects it, without a warning."""

import gc
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest

from audits.scoring.ragged_file import RaggedFile


class Reader:
    """Holds a file, and itself, so that only the garbage collector lets it go."""

    def __init__(self, file: RaggedFile) -> None:
        self.file = file
        self.me = self


@pytest.mark.parametrize("named", [False, True])
def test_a_file_is_open_until_its_last_reader_is_collected(named: bool, tmp_path: Path) -> None:
    (tmp_path / "named").write_bytes(b"")
    stream = (tmp_path / "named").open("rb") if named else tempfile.TemporaryFile(dir=tmp_path)
    file = RaggedFile(stream, np.int32)
    first, second = Reader(file), Reader(file)
    del file
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        del first
        gc.collect()
        assert second.file.read(np.array([0]), np.array([0])).size == 0
        del second
        assert not stream.closed
        gc.collect()
        assert stream.closed


def test_a_nameless_file_is_read_by_runs_and_leaves_nothing_in_its_folder(tmp_path: Path) -> None:
    file = RaggedFile.nameless(np.int32, tmp_path)
    assert [file.append(np.array(run, dtype=np.int32)) for run in ([7, 8], [], [9])] == [0, 2, 2]
    assert file.read(np.array([2, 0]), np.array([1, 2])).tolist() == [9, 7, 8]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="the file holds int32, found int64"):
        file.append(np.array([1]))
