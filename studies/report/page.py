"""Writes the page, its tables and charts, and the main table for a terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from audits.answer import Answer
from audits.answer.machine import FILE_NAME
from common.atomic_file import make_private, replacing
from studies.compare.tables import write_study_tables
from studies.plan.cells import Plan
from studies.report.answer import study_answer
from studies.report.exports import latex, write_charts
from studies.report.machine import study_json
from studies.report.notices import notices
from studies.report.parts import Section
from studies.report.render import Page, render
from studies.report.sections import GROUPS
from studies.report.sections.leaks import membership_table
from studies.report.study_data import StudyData, read_study_data

# Of "0.981]", the longest word of an estimate.
_FIGURE_WIDTH = 7
Groups = Mapping[str, Sequence[Section]]


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
    sections = _sections(data)
    folder = out / "report"
    for section in chain.from_iterable(sections.values()):
        for name, table in section.tables.items():
            texts = {"csv": table.csv(), "tex": latex(table, f"{plan.title}: {name}")}
            for ending, text in texts.items():
                place = folder / "tables" / f"{name}.{ending}"
                _write_text(place, text, private="record" in table.frame)
        write_charts(section.charts, folder / "figures")
    page = folder / "index.html"
    answer = study_answer(data, out_of_date=out_of_date)
    _write_text(page, _render(data, answer, sections, out_of_date=out_of_date))
    _write_text(folder / FILE_NAME, study_json(data, answer))
    if console is not None:
        _print_main_table(data, console)
    if not reveal:
        return page
    shown = replace(data, reveal=True)
    page = make_private(out / "private") / "report.html"
    _write_text(page, _render(shown, answer, _sections(shown), out_of_date=out_of_date))
    return page


def _sections(data: StudyData) -> Groups:
    return {title: [make(data) for make in makers] for title, makers in GROUPS.items()}


def _print_main_table(data: StudyData, console: Console) -> None:
    content = membership_table(data)
    # Of texts, rich takes what stands in brackets for words; of strings, for styles.
    title = Text(data.plan.title)
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in content.columns:
        # On a narrow screen a number takes two lines; none is cut.
        shown.add_column(
            Text(column.title),
            justify="right" if column.numeric else "left",
            overflow="fold",
            min_width=_FIGURE_WIDTH if column.numeric else None,
        )
    for row in content.rows:
        shown.add_row(*(Text(cell.text) for cell in row))
    console.print(shown)


def _render(data: StudyData, answer: Answer, sections: Groups, *, out_of_date: bool) -> str:
    return render(
        Page(
            title=data.plan.title,
            about=f"Privacy of distillation · study {data.plan.name}",
            answer=answer,
            notices=notices(data, out_of_date=out_of_date),
            groups=sections,
        )
    )


def _write_text(path: Path, text: str, *, private: bool = False) -> None:
    with replacing(path, private=private) as file:
        file.write(text.encode())
