"""What no program can help is told in one line, with what to do next; a defect stays one."""

import errno
import os
from pathlib import Path

import pytest

from common.atomic_file import replacing
from common.errors import UserError, exit_status, mistake_behind


def noted(error: Exception, note: str) -> Exception:
    error.add_note(note)
    return error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            noted(OSError(errno.ENOSPC, "x", "a.ckpt"), "go on"),
            "a.ckpt: No space left on device; go on",
        ),
        (
            OSError(errno.EROFS, "x"),
            "Read-only file system; mend that, and give the command again",
        ),
        (
            RuntimeError("I/O error: no room (os error 28)"),
            "No space left on device; mend that, and give the command again",
        ),
        (
            noted(RuntimeError("gloo: Connection reset by peer. GLHF!"), "go on"),
            "another rank has ended (Connection reset by peer), as its own line says; go on",
        ),
        (UserError("mine"), "mine"),
    ],
)
def test_it_is_told_in_one_line(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise error

    assert exit_status(fail, "") == 2
    assert capsys.readouterr().err == f"error: {line}\n"


def test_of_several_refusals_the_first_is_told() -> None:
    first, later = OSError(errno.ENOSPC, "x", "a"), OSError(errno.EIO, "x", "b")
    later.__context__ = first
    assert str(mistake_behind(later)).startswith("a: No space left")


def test_a_defect_is_none() -> None:
    for error in (RuntimeError("a bug"), FileNotFoundError(errno.ENOENT, "x"), KeyError("x")):
        assert mistake_behind(error) is None


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "table"
    with pytest.raises(OSError, match="table"), replacing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []
