"""What an audit shows: tables of figures in words, as text, as a page, with its files."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import pyarrow as pa
from markupsafe import Markup
from matplotlib.figure import Figure

from audits.model_card.markdown import Row, figure_text, options_text
from audits.model_card.privacy_section import ATTACK_COLUMNS, GAP_COLUMNS, attack_lines, gap_lines
from audits.results import write_table
from audits.rows import Audit as AuditName
from audits.statistics.verdict import RULES
from common.atomic_file import replacing
from common.errors import UserError

Section = tuple[str, Sequence[str], Sequence[Sequence[object]]]
"""Title, columns and lines of a table."""

FIGURE_COLUMNS = ("Measure", "Of", "Value [95% interval]", "Members", "Non-members")
UTILITY = ("perplexity", "teacher_kl")
"""Metrics of the utility that an audit measures, most telling first."""

_INTERVAL = " [95% interval]"
_PAGE = "audit_page.html"


def sections(rows: Sequence[Row], run: str = "") -> list[Section]:
    """Returns the tables of one model.

    Args:
        rows: Its results over all tasks.
        run: What the model is called in the titles; empty where it is the only one.
    """
    by_audit: dict[object, list[Row]] = {}
    for row in rows:
        if row["block"] is None:
            by_audit.setdefault(row["audit"], []).append(row)
    membership, memorization, utility = (
        by_audit.get(str(audit), [])
        for audit in (AuditName.membership, AuditName.memorization, AuditName.utility)
    )
    tables = [
        ("Membership", ATTACK_COLUMNS, sorted(attack_lines(membership), key=_headline)),
        ("Memorization", GAP_COLUMNS, gap_lines(memorization, membership)),
        ("Utility", FIGURE_COLUMNS, figure_lines(utility)),
    ]
    prefix = f"{run.capitalize()}: " if run else ""
    return [
        (prefix + (title.lower() if run else title), header, lines)
        for title, header, lines in tables
        if lines
    ]


def _headline(line: Sequence[object]) -> bool:
    """Puts the attack with a reference first, where there is one: it tells most."""
    return not str(line[0]).startswith("reference")


def figure_lines(rows: Sequence[Row]) -> list[tuple[object, ...]]:
    """Returns one line of `FIGURE_COLUMNS` for every row."""
    return [
        (
            f"{row['metric']}{options_text(row)}",
            row["population"],
            figure_text(row),
            *("" if row[side] is None else row[side] for side in ("n_members", "n_nonmembers")),
        )
        for row in rows
    ]


def page_text(tables: Sequence[Section], notes: Sequence[str]) -> str:
    """Returns tables and notes as text."""
    text = []
    for title, header, lines in tables:
        text += ["", f"{title}: figures with 95% intervals"]
        judged = header[-1] == "Verdict"
        for name, compared, *figures in lines:
            named = zip(header[2 : -4 if judged else 3], figures, strict=False)
            told = "; ".join(f"{one.removesuffix(_INTERVAL)} {figure}" for one, figure in named)
            sides = figures[-4:-2] if judged else figures[1:]
            counts = " + ".join(str(count) for count in sides if count not in (None, ""))
            units = "subjects" if "unit=subject" in str(name) else "records"
            text.append(f"  {name}, {compared}: {told}; {counts} {units}")
            text += [f"      {figures[-1]}"] if judged else []
    return "\n".join([*text, "", *(f"- {note}" for note in notes)]).strip()


def write_audit(
    folder: Path,
    tables: Mapping[str, pa.Table],
    shown: Sequence[Section],
    notes: Sequence[str],
    figures: Mapping[str, Figure],
    summary: Mapping[str, object],
    title: str = "What this model gives away",
) -> Path:
    """Writes the tables, audit.json and a page that anybody can open.

    Args:
        folder: Where they go, in the place of an earlier audit's; made if it is not there.
        tables: By name; a memorization table without rows is not written.
        shown: Tables of the page.
        notes: What must be known before a figure is read.
        figures: By name.
        summary: What audit.json holds.
        title: Of the page.

    Returns:
        Path of the page.

    Raises:
        UserError: There is a file of the folder's name.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: name a folder, which need not be there")
    for name, table in tables.items():
        path = folder / f"{name}.parquet"
        if table.num_rows or name != "memorization":
            write_table(table, path)
        else:
            path.unlink(missing_ok=True)
    page = _template().render(
        title=title,
        sections=shown,
        notes=notes,
        rules=RULES,
        figures=[(name, Markup(_svg(figure))) for name, figure in figures.items()],
    )
    path = folder / "index.html"
    texts = {folder / "audit.json": json.dumps(summary, indent=1, allow_nan=False), path: page}
    for place, text in texts.items():
        with replacing(place) as file:
            file.write(text.encode("utf-8"))
    return path


def _svg(figure: Figure) -> str:
    """Returns a figure as an SVG element."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg")
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(loader=loader, autoescape=True).get_template(_PAGE)
