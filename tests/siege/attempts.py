"""What a hostile or careless user tries, and what the one line that answers it must hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

SECRET = "Zyrkvost"
"""A word of the private records: no message may hold it."""


@dataclass(frozen=True)
class Attempt:
    """One command line, what lies beside it, and how it ends.

    Attributes:
        arguments: Of `kd-privacy`, or of `kd-study` where they begin with it.
        says: A regular expression that the line holds.
        files: Text or bytes by path, written before.
        status: Exit status.
        room: Bytes that a file may grow to, as on a disk that is full then; None for no bound.
    """

    arguments: tuple[str, ...]
    says: str
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    status: int = 2
    room: int | None = None


def bomb() -> str:
    """Nine lines of YAML that stand for a billion words."""
    levels = (f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in pairwise("abcdefghi"))
    return f"a: &a [{','.join('x' * 10)}]\n" + "".join(levels)
