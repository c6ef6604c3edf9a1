"""Writes the page, its tables and charts, and the main table for a terminal."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import jinja2
import vl_convert
from markupsafe import Markup
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from common.wording import p_value_text
from studies.claims import Finding
from studies.claims.output import estimate_text
from studies.compare.tables import write_study_tables
from studies.plan.cells import Plan
from studies.report.charts import Spec
from studies.report.claims import findings_table, shown_findings
from studies.report.exports import latex, write_charts
from studies.report.notices import notices
from studies.report.page_tables import PageTable
from studies.report.result_tables import membership_table
from studies.report.sections import SECTIONS, section_charts, section_tables, section_values
from studies.report.study_data import StudyData, read_study_data
from studies.report.worst_records import (
    RevealedRecord,
    revealed,
    worst_records,
    worst_records_table,
)

__all__ = ["print_main_table", "write_report"]

_HERE = Path(__file__).parent
# Of "0.981]", the longest word of an estimate.
_FIGURE_WIDTH = 7


def write_report(plan: Plan, out: Path, *, out_of_date: bool = False, reveal: bool = False) -> Path:
    """Writes `OUT/report/index.html`, tables (CSV, LaTeX) and charts (SVG, PNG) of what is done.

    Args:
        plan: The plan that the last run used.
        out: Folder of the study.
        out_of_date: Whether the study file asks for other cells by now; the page says so.
        reveal: Also writes `OUT/private/report.html`, which shows private records in words, into a
            folder of mode 0700. The other page never does.

    Returns:
        Path of the page that was asked for.
    """
    write_study_tables(plan, out)
    data = read_study_data(plan, out)
    tables = section_tables(data)
    findings = shown_findings(plan, out)
    if findings:
        tables["findings"] = findings_table(findings)
    worst = worst_records(data, out)
    if worst:
        tables["worst_records"] = worst_records_table(data, worst)
    folder = out / "report"
    for name, table in tables.items():
        _write_text(folder / "tables" / f"{name}.csv", table.csv())
        _write_text(folder / "tables" / f"{name}.tex", latex(table, f"{plan.title}: {name}"))
    specs = section_charts(data)
    write_charts(specs, folder / "figures")
    page = folder / "index.html"
    _write_text(page, _render(data, tables, specs, findings, out_of_date))
    if not reveal:
        return page
    private = out / "private"
    private.mkdir(exist_ok=True, mode=0o700)
    text = _render(data, tables, specs, findings, out_of_date, revealed(data, worst))
    _write_text(private / "report.html", text)
    return private / "report.html"


def print_main_table(plan: Plan, out: Path, console: Console) -> None:
    """Prints the membership table of a study."""
    data = read_study_data(plan, out)
    content = membership_table(data).noted(data.notes)
    shown = Table(title=plan.title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
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


def _render(
    data: StudyData,
    tables: dict[str, PageTable],
    specs: dict[str, Spec],
    findings: Sequence[Finding],
    out_of_date: bool,
    shown: Sequence[RevealedRecord] | None = None,
) -> str:
    """Returns the page; `shown` are private records in words, None on a page without any."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # `<` inside the data would end the script element; in JSON it may be written as an escape.
    encoded = json.dumps(specs, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return environment.get_template("page.html").render(
        plan=data.plan,
        sections=[section for section in SECTIONS if section.shown(specs, tables)],
        notices=notices(data, out_of_date=out_of_date),
        findings=findings,
        estimate_text=estimate_text,
        p_value_text=p_value_text,
        charts={name: name in specs for section in SECTIONS for name in section.charts},
        revealed=shown,
        tables=tables,
        labels=data.labels,
        versions=_versions(data),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        specs=Markup(encoded),
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        vega=Markup(_vega()),
        script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
        **section_values(data),
    )


@cache
def _vega() -> str:
    """Returns the charts' JavaScript, the same for every page and seconds in the making."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script")


def _versions(data: StudyData) -> dict[str, str]:
    """Returns versions and machine; several values where cells differ."""
    seen: dict[str, list[str]] = {}
    for facts in data.facts.values():
        versions = facts.get("versions")
        entries = dict(versions) if isinstance(versions, dict) else {}
        for name, value in {**entries, "machine": facts.get("machine", "unknown")}.items():
            seen.setdefault(name, [])
            if str(value) not in seen[name]:
                seen[name].append(str(value))
    return {"study file": data.plan.source} | {name: "; ".join(all_) for name, all_ in seen.items()}


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
