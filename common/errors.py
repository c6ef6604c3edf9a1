"""The one exception that a user's mistake raises, and how a command tells it."""

import os
import sys
import traceback
from collections.abc import Sequence

_ASKED = "--traceback"
_ASKED_IN_RANKS = "KD_PRIVACY_TRACEBACK"


class UserError(Exception):
    """A mistake in the user's input: one line that says what, where and how to mend it.

    Command-line entries print the message alone and exit with status 2; everything else is a
    defect of this project and keeps its traceback.
    """


def first_line(error: BaseException) -> str:
    """Returns the first line of another library's message, or its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def mistake_behind(error: BaseException | None) -> UserError | None:
    """Returns the user's mistake behind an error: libraries wrap what is raised within."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


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
