"""One process writes into a folder; the kernel frees it however that process ends."""

import os
import signal
from pathlib import Path

import pytest

from common.errors import UserError
from common.lock import only_writer


def test_a_second_writer_is_refused_and_told_who_writes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with only_writer(folder), pytest.raises(UserError) as refused, only_writer(folder):
        pass
    assert f"process {os.getpid()} is writing into {folder}" in str(refused.value)
    with only_writer(folder):
        pass


def test_a_killed_writer_leaves_the_folder_free(tmp_path: Path) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with only_writer(tmp_path):
            os.write(write, b"in")
            signal.pause()
    os.read(read, 2)
    with pytest.raises(UserError, match=f"process {child} "), only_writer(tmp_path):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with only_writer(tmp_path):
        pass
