"""The one exception that a user's mistake raises, and how a command tells it."""

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence

INTERRUPTED = 130
"""Exit status of what Ctrl-C ended, as shells know it."""
_ASKED = "--traceback"
_ASKED_IN_RANKS = "KD_PRIVACY_TRACEBACK"
_OF_THE_MACHINE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP, errno.EMFILE, errno.ENFILE),
}
"""Numbers of what a file system refuses, whatever a program does."""
_NO_NUMBER = "take a lower learning rate, another precision, or weights that are whole"
_LOST = re.compile("Connection (?:reset|closed) by peer")
_IN_RUST = re.compile(r"\(os error (\d+)\)")


class UserError(Exception):
    """A mistake in the user's input: one line that says what, where and how to mend it.

    Command-line entries print the message alone and exit with status 2; everything else is a
    defect of this project and keeps its traceback.
    """


def first_line(error: BaseException) -> str:
    """Returns the first line of another library's message, or its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def mistake_behind(error: BaseException | None) -> UserError | None:
    """Returns the user's mistake behind an error: libraries wrap what is raised within.

    What a file system refuses, such as a disk that is full, is one too, and so is a loss that is no
    number; the first of them is told, as others follow when what is open is closed.
    """
    refusal: UserError | None = None
    while error is not None and not isinstance(error, UserError):
        refusal = _refusal(error) or refusal
        error = error.__cause__ or error.__context__
    return error or refusal


def _refusal(error: BaseException) -> UserError | None:
    """Returns what a file system said, where that is what the error is; its notes say what next.

    A loss or score that is no number comes of weights, rates and types, not of a defect either, and
    a connection that is lost of a rank that has said itself why it ended.
    """
    then = "; ".join(getattr(error, "__notes__", None) or ["mend that, and give the command again"])
    if isinstance(error, FloatingPointError):
        return UserError(f"{first_line(error)}; {_NO_NUMBER}")
    lost = _LOST.search(str(error)) if isinstance(error, RuntimeError) else None
    if lost is not None:
        return UserError(f"another rank has ended ({lost.group()}), as its own line says; {then}")
    told = _IN_RUST.search(str(error))
    number = int(told.group(1)) if told else getattr(error, "errno", None)
    if number not in _OF_THE_MACHINE:
        return None
    place = getattr(error, "filename", None)
    where = "" if place is None else f"{os.fsdecode(place)}: "
    refusal = UserError(f"{where}{os.strerror(number)}; {then}")
    refusal.__cause__ = error
    return refusal


def exit_status(work: Callable[[], int], interrupted: str) -> int:
    """Returns the exit status of a command's work, after one line where it could not be done.

    Args:
        work: Returns its own status.
        interrupted: What is said after Ctrl-C.
    """
    try:
        return work()
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted: {interrupted}\n")
        return INTERRUPTED
    except Exception as error:
        mistake = mistake_behind(error)
        if mistake is None:
            raise
        tell_mistake(mistake)
        return 2


def without_traceback_option(arguments: Sequence[str]) -> list[str]:
    """Returns a command line without ``--traceback``, which is remembered, for all ranks."""
    if _ASKED in arguments:
        os.environ[_ASKED_IN_RANKS] = "1"
    return [word for word in arguments if word != _ASKED]


def tell_mistake(mistake: UserError) -> None:
    """Writes a user's mistake in one line on standard error; before it, where asked, its place."""
    if os.environ.get(_ASKED_IN_RANKS):
        traceback.print_exception(mistake)
    sys.stderr.write(f"error: {mistake}\n")
