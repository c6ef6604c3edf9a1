"""Numbers in words, names without their folders, cells that a spreadsheet does not run."""

import math
from pathlib import PurePath, PureWindowsPath

_RUN_BY_SPREADSHEETS = ("=", "+", "-", "@", "\t", "\r")

_LEAST = 1e-16
"""Below it a p-value is the tail of an approximation that nobody has checked so far out."""


def interval_text(lower: float | None, upper: float | None, style: str = ".3f") -> str:
    """Returns the ends of an interval in brackets; nothing where one of them is missing.

    Args:
        lower: Lower end; None or NaN where there is none.
        upper: Upper end.
        style: Format of each end.

    >>> interval_text(0.25, 0.5), interval_text(0.25, 0.5, "+.1%"), interval_text(None, 0.5)
    ('[0.250, 0.500]', '[+25.0%, +50.0%]', '')
    """
    if lower is None or upper is None or math.isnan(lower) or math.isnan(upper):
        return ""
    return f"[{lower:{style}}, {upper:{style}}]"


def estimate_text(
    value: float | None,
    lower: float | None,
    upper: float | None,
    style: str = ".3f",
    missing: str = "not measurable",
) -> str:
    """Returns a value with its interval, the value alone where it has none, or `missing`.

    >>> estimate_text(0.4, 0.25, 0.5), estimate_text(0.4, None, None), estimate_text(None, 0, 1)
    ('0.400 [0.250, 0.500]', '0.400', 'not measurable')
    """
    if value is None or math.isnan(value):
        return missing
    return f"{value:{style}} {interval_text(lower, upper, style)}".rstrip()


def p_value_text(p_value: float) -> str:
    """Returns a p-value with its relation.

    >>> p_value_text(0.0213), p_value_text(0.0)
    ('p = 0.021', 'p < 1e-16')
    """
    return f"p < {_LEAST:g}" if p_value < _LEAST else f"p = {p_value:.2g}"


def inert_cell(text: str) -> str:
    """Returns the text of a table's cell so that no spreadsheet takes it for a formula.

    A carriage return inside would begin a new row, and that with a formula.

    >>> inert_cell("=cmd|' /C calc'!A0"), inert_cell("kd"), inert_cell("")
    ("'=cmd|' /C calc'!A0", 'kd', '')
    """
    mark = "'" if text.startswith(_RUN_BY_SPREADSHEETS) else ""
    return mark + text.replace("\r", " ")


def public_name(source: str) -> str:
    """Returns a hub name as it is, and of a path that leads anywhere else its last part alone.

    >>> public_name("EleutherAI/pythia-70m"), public_name("/home/me/secret/train.jsonl")
    ('EleutherAI/pythia-70m', 'train.jsonl')
    """
    for path in (PurePath(source), PureWindowsPath(source)):
        if path.is_absolute() or source.startswith(("~", "..")):
            return path.name
    return source
