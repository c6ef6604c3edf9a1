"""A line above the figures."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Notice", "listed"]

_NAMED = 6


@dataclass(frozen=True)
class Notice:
    """A line above the figures; `level` is alert, caution, note or good."""

    level: str
    title: str
    text: str


def listed(names: Sequence[str]) -> str:
    """Returns names for a sentence, the first of them where there are many.

    >>> listed(["a", "b"]), listed([str(number) for number in range(9)])
    ('a, b', '0, 1, 2, 3, 4, 5 and 3 more')
    """
    if len(names) <= _NAMED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
