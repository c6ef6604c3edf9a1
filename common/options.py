"""Checks of numbers and folders that a user gives."""

import os
import re
from pathlib import Path

from common.errors import UserError, first_line

_CONTROL = re.compile("[\x00-\x1f\x7f]")
_SHOWN = 80
"""Characters that are shown of a name that no path can have."""


def require_at_least(least: float, where: str = "", /, **options: float) -> None:
    """Refuses numbers below a bound.

    >>> require_at_least(1, "model.", layers=2)

    Args:
        least: The bound.
        where: What stands before the options' names, such as "model.".
        **options: Numbers by the names of their options.

    Raises:
        UserError: Naming the first that is too small.
    """
    for name, value in options.items():
        if not least <= value < float("inf"):
            raise UserError(f"{where}{name} is {value}: give at least {least:g}")


def require_at_most(most: float, where: str = "", /, **options: float) -> None:
    """Refuses numbers above a bound; arguments are those of :func:`require_at_least`.

    Raises:
        UserError: Naming the first that is too large.
    """
    for name, value in options.items():
        if not value <= most:
            raise UserError(f"{where}{name} is {value}: give at most {most:,g}")


def require_share(where: str = "", /, **options: float) -> None:
    """Refuses numbers outside [0, 1]; arguments are those of :func:`require_at_least`.

    Raises:
        UserError: Naming the first that is outside.
    """
    for name, value in options.items():
        if not 0 <= value <= 1:
            raise UserError(f"{where}{name} is {value}: give a number from 0 to 1")


def require_positive(where: str = "", /, **options: float) -> None:
    """Refuses numbers that are not finite and above 0, as :func:`require_at_least` does.

    Raises:
        UserError: Naming the first that is not.
    """
    for name, value in options.items():
        if not 0 < value < float("inf"):
            raise UserError(f"{where}{name} is {value}: give a positive number")


def given_path(words: str) -> Path:
    """Returns the path that a user names, `~` written out; it need not be there.

    Raises:
        UserError: Nothing can have that name.
    """
    shown = words if len(words) <= _SHOWN else f"{words[:_SHOWN]}..."
    try:
        words.encode("utf-8")
        path = Path(words).expanduser()
        path.exists()
    except (OSError, RuntimeError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"{shown!r} is no path: {why}") from error
    if _CONTROL.search(words):
        raise UserError(f"{shown!r} is no path: it holds a null byte or another control character")
    return path


def require_folder(option: str, folder: str | Path) -> None:
    """Refuses what cannot become a folder that is written to.

    Args:
        option: What the user calls it.
        folder: The folder, which need not be there.

    Raises:
        UserError: An empty name, a file of that name, or no right to write there.
    """
    if not str(folder).strip():
        raise UserError(f"{option} is empty: name a folder, which need not be there")
    path = given_path(str(folder))
    home = next(place for place in (path, *path.resolve().parents) if place.exists())
    if not home.is_dir():
        taken = "is a file" if home == path else f"lies in {home}, which is a file"
        raise UserError(f"{option} {folder} {taken}: name a folder, which need not be there")
    if not os.access(home, os.W_OK):
        raise UserError(f"{option} {folder}: nothing can be written to {home}")


def make_folder(option: str, folder: Path) -> None:
    """Makes a folder that is written to; arguments are those of :func:`require_folder`.

    Raises:
        UserError: As there, or the system refuses to make it.
    """
    require_folder(option, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{option} {folder} cannot be made: {error.strerror}") from error
