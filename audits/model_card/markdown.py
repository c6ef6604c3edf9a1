"""Markdown of a model card: tables whose cells cannot break them, figures with their intervals."""

from collections.abc import Mapping, Sequence

from audits.answer.judging import options_text as options_text

Row = Mapping[str, object]


def table(header: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """Returns a table; None is told as "not counted"."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(cell(one) for one in row) + " |" for row in rows)


def cell(content: object) -> str:
    """Returns a value as one table cell on one line."""
    text = "not counted" if content is None else line(content)
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def line(content: object) -> str:
    """Returns a value on one line."""
    return " ".join(str(content).split())


def figure_text(row: Row) -> str:
    """Returns a row's value with its interval."""
    value, lower, upper = (row.get(column) for column in ("value", "lower", "upper"))
    if value is None:
        return "not measurable"
    if lower is None or upper is None:
        return f"{_figure(value)} [no interval]"
    return f"{_figure(value)} [{_figure(lower)}, {_figure(upper)}]"


def _figure(number: object) -> str:
    return f"{float(str(number)):.3f}"
