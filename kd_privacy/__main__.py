"""Entry point of `kd-privacy`: help and a wrong first word are answered before heavy imports."""

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import without_traceback_option

COMMANDS = ("fit", "validate", "audit", "show", "attack")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `kd-privacy` and returns its exit status.

    Args:
        arguments: The command line without the program's name; the process's own if None.
    """
    whole = sys.argv[1:] if arguments is None else list(arguments)
    given = without_traceback_option(whole)
    if arguments is None:
        sys.argv[1:] = given  # Lightning's command line and its ranks read them there
    mistake = _mistake(given)
    if mistake is not None:
        sys.stderr.write(f"error: {mistake}; see kd-privacy --help\n")
        return 2
    if "--help" in given or "-h" in given:
        sys.stdout.write(help_page(next((word for word in given if word in COMMANDS), None)))
        return 0
    # PyTorch, Lightning and Transformers take seconds to import.
    if given[0] == "audit":
        from kd_privacy import audit_cli

        return audit_cli.main(given[1:])
    from kd_privacy import cli

    cli.main(None if arguments is None else given)
    return 0


def help_page(command: str | None) -> str:
    """Returns the short help of a command, or that of `kd-privacy` itself if None."""
    page = Path(__file__).with_name("help") / f"{command or 'kd-privacy'}.txt"
    return page.read_text(encoding="utf-8")


def _mistake(given: Sequence[str]) -> str | None:
    """Says what is wrong with the first word of a command line, if that can be told by itself."""
    if not given:
        return f"no command: give one of {', '.join(COMMANDS)}"
    first = given[0]
    if first in COMMANDS or first.startswith("-"):
        return None
    nearest = difflib.get_close_matches(first, COMMANDS, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(COMMANDS)}"
    return f"{first}: no such command ({hint})"


if __name__ == "__main__":
    sys.exit(main())
