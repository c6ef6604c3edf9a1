"""A shared file closes with its last reader, whoever collects it, without a warning."""

import gc
import warnings
from pathlib import Path

import pytest

from audits.scoring.owned_file import OwnedFile


class Reader:
    """Holds a file, and itself, so that only the garbage collector lets it go."""

    def __init__(self, file: OwnedFile) -> None:
        self.file = file
        self.me = self


@pytest.mark.parametrize("named", [False, True])
def test_a_file_is_open_until_its_last_reader_is_collected(named: bool, tmp_path: Path) -> None:
    (tmp_path / "named").write_bytes(b"")
    file = OwnedFile((tmp_path / "named").open("rb")) if named else OwnedFile.nameless(tmp_path)
    stream = file.stream
    first, second = Reader(file), Reader(file)
    del file
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        del first
        gc.collect()
        assert second.file.descriptor == stream.fileno()
        del second
        assert not stream.closed
        gc.collect()
        assert stream.closed


def test_a_nameless_file_leaves_nothing_in_its_folder(tmp_path: Path) -> None:
    file = OwnedFile.nameless(tmp_path)
    file.stream.write(b"private")
    file.stream.flush()
    assert list(tmp_path.iterdir()) == []
