"""Writes the page, its tables and charts, and the main table for a terminal."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import jinja2
import vl_convert
from markupsafe import Markup, escape
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from audits.answer.machine import FILE_NAME
from common.atomic_file import replacing
from studies.compare.tables import write_study_tables
from studies.plan.cells import Plan
from studies.report.answer import study_answer
from studies.report.exports import latex, write_charts
from studies.report.machine import study_json
from studies.report.notices import notices
from studies.report.parts import Notice, Section
from studies.report.sections import SECTIONS
from studies.report.sections.leaks import membership_table
from studies.report.study_data import StudyData, read_study_data

_HERE = Path(__file__).parent
# Of "0.981]", the longest word of an estimate.
_FIGURE_WIDTH = 7
_MARKS = ((r"\*\*(.+?)\*\*", "strong"), (r"\*(.+?)\*", "em"), (r"`(.+?)`", "code"))


def write_report(
    plan: Plan,
    out: Path,
    *,
    out_of_date: bool = False,
    reveal: bool = False,
    console: Console | None = None,
) -> Path:
    """Writes `OUT/report/index.html`, audit.json, tables (CSV, LaTeX) and charts (SVG, PNG) of what
    is done.

    Args:
        plan: The plan that the last run used.
        out: Folder of the study.
        out_of_date: Whether the study file asks for other cells by now; the page says so.
        reveal: Also writes `OUT/private/report.html`, which shows private records in words, into a
            folder of mode 0700. The other page never does.
        console: Also prints the table of memberships there.

    Returns:
        Path of the page that was asked for.
    """
    write_study_tables(plan, out)
    data = read_study_data(plan, out)
    sections = [make(data) for make in SECTIONS]
    told = notices(data, out_of_date=out_of_date)
    folder = out / "report"
    for section in sections:
        for name, table in section.tables.items():
            _write_text(folder / "tables" / f"{name}.csv", table.csv())
            _write_text(folder / "tables" / f"{name}.tex", latex(table, f"{plan.title}: {name}"))
        write_charts(section.charts, folder / "figures")
    page = folder / "index.html"
    _write_text(page, _render(data.plan, sections, told))
    _write_text(folder / FILE_NAME, study_json(data, study_answer(data, out_of_date=out_of_date)))
    if console is not None:
        _print_main_table(data, console)
    if not reveal:
        return page
    private = out / "private"
    private.mkdir(exist_ok=True, mode=0o700)
    shown = replace(data, reveal=True)
    page = private / "report.html"
    told = notices(shown, out_of_date=out_of_date)
    _write_text(page, _render(data.plan, [make(shown) for make in SECTIONS], told))
    return page


def _print_main_table(data: StudyData, console: Console) -> None:
    content = membership_table(data)
    shown = Table(title=data.plan.title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in content.columns:
        # On a narrow screen a number takes two lines; none is cut.
        shown.add_column(
            column.title,
            justify="right" if column.numeric else "left",
            overflow="fold",
            min_width=_FIGURE_WIDTH if column.numeric else None,
        )
    for row in content.rows:
        shown.add_row(*(cell.text for cell in row))
    console.print(shown)


def _render(plan: Plan, sections: Sequence[Section], told: Sequence[Notice]) -> str:
    """Returns the page of those sections that have something to show."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = _words
    environment.filters["kind"] = lambda part: type(part).__name__
    shown = [section for section in sections if section.shown]
    specs = {name: spec for section in shown for name, spec in section.charts.items()}
    # `<` inside the data would end the script element; in JSON it may be written as an escape.
    encoded = json.dumps(specs, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return environment.get_template("page.html").render(
        plan=plan,
        sections=shown,
        notices=told,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        specs=Markup(encoded),
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        vega=Markup(_vega()),
        script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
    )


def _words(text: str) -> Markup:
    """Returns a text of `parts` as HTML."""
    if isinstance(text, Markup):
        return text
    html = str(escape(text))
    for pattern, tag in _MARKS:
        html = re.sub(pattern, rf"<{tag}>\1</{tag}>", html)
    return Markup(html.replace("\n\n", "<br>"))


@cache
def _vega() -> str:
    """Returns the charts' JavaScript, the same for every page and seconds in the making."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script")


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())
