"""What an audit shows: tables of figures in words, as text, as a page, with its files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa

from audits.answer import Answer
from audits.model_card.markdown import Row, figure_text, options_text
from audits.model_card.privacy_section import ATTACK_COLUMNS, GAP_COLUMNS, attack_lines, gap_lines
from audits.model_card.span_section import FIGURE_COLUMNS, span_lines
from audits.results import write_table
from audits.rows import Audit as AuditName
from audits.spans.names import SPAN
from audits.spans.worst import FILE_NAME as WORST_SPANS
from audits.spans.worst import write_worst_spans
from common.atomic_file import replacing
from common.errors import UserError
from datamodules.record_names import RecordNames

if TYPE_CHECKING:
    from studies.report.render import Page
    from studies.report.tables import PageTable

Section = tuple[str, Sequence[str], Sequence[Sequence[object]]]
"""Title, columns and lines of a table."""

UTILITY = ("perplexity", "teacher_kl")
"""Metrics of the utility that an audit measures, most telling first."""

_INTERVAL = " [95% interval]"
_SHIPPED = ("audit", "student")
_SURE = "How sure is this?"
_BY_ATTACKER = "By attacker"
_TITLES = {
    "model": "What this model gives away",
    "pair": "What this student gives away of its teacher's records",
}
_INTERVALS = (
    "Brackets are 95% intervals over records, given these weights: another training run may give "
    "more away, or less. Near-duplicates count together."
)


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
    membership, memorization, spans, utility = (
        by_audit.get(str(audit), [])
        for audit in (
            *(AuditName.membership, AuditName.memorization, AuditName.spans, AuditName.utility),
        )
    )
    tables = [
        ("Membership", ATTACK_COLUMNS, sorted(attack_lines(membership), key=_headline)),
        ("Memorization", GAP_COLUMNS, gap_lines(memorization, membership)),
        ("Sensitive spans", FIGURE_COLUMNS, span_lines(spans)),
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
    answer: Answer,
    summary: Mapping[str, object],
    names: RecordNames,
) -> Path:
    """Writes the tables, audit.json, a page that anybody can open, and private/ with own ids.

    Args:
        folder: Where they go, in the place of an earlier audit's; made if it is not there.
        tables: By name; a memorization table without rows is not written.
        shown: Tables of the page.
        answer: What the page tells first.
        summary: What audit.json holds.
        names: What the records are called.

    Returns:
        Path of the page.

    Raises:
        UserError: There is a file of the folder's name.
    """
    from studies.report.render import render

    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: name a folder, which need not be there")
    for name, table in tables.items():
        path = folder / f"{name}.parquet"
        if table.num_rows or name != "memorization":
            write_table(table, path)
        else:
            path.unlink(missing_ok=True)
    names.write(folder / "private")
    _write_worst_spans(tables["memorization"], folder / "private")
    path = folder / "index.html"
    page = render(_page(tables, shown, answer))
    texts = {folder / "audit.json": json.dumps(summary, indent=1, allow_nan=False), path: page}
    for place, text in texts.items():
        with replacing(place) as file:
            file.write(text.encode("utf-8"))
    return path


def _write_worst_spans(memorization: pa.Table, folder: Path) -> None:
    """Writes the members' worst spans by id, of the model that is shipped; none where none are."""
    rows = [row for row in memorization.to_pylist() if row["name"] == SPAN]
    own = [row | {"params": json.loads(row["params"])} for row in rows if row["run"] in _SHIPPED]
    if own:
        write_worst_spans(own, "external", folder)
    else:
        (folder / WORST_SPANS).unlink(missing_ok=True)


def _page(tables: Mapping[str, pa.Table], shown: Sequence[Section], answer: Answer) -> "Page":
    from kd_privacy.audit_charts import chart_groups
    from studies.report import parts
    from studies.report.render import Page
    from studies.report.sections.by_access import ACCESS_HEADING, access_parts

    groups = {
        _SURE: [
            parts.Section("sure", "What the intervals are over", [parts.Text(_INTERVALS)], True),
            parts.Section("figures", "Figures", [_table(*one) for one in shown]),
        ]
    }
    groups |= chart_groups(tables, answer.models)
    if access := access_parts([(one.label, one.by_access) for one in answer.models]):
        groups[_BY_ATTACKER].insert(0, parts.Section("by_access", ACCESS_HEADING, access))
    levels = dict.fromkeys(answer.notes, "note") | {answer.caution: "caution"}
    return Page(
        title=_TITLES[answer.kind],
        about="Privacy audit",
        answer=answer,
        notices=[parts.Notice(level, "", note) for note, level in levels.items() if note],
        groups=groups,
    )


def _table(title: str, header: Sequence[str], lines: Sequence[Sequence[object]]) -> "PageTable":
    from studies.report.labels import plain
    from studies.report.tables import Column, PageTable, TableCell

    def cell(value: object) -> TableCell:
        return TableCell("not counted" if value is None else plain(str(value)).replace("_", " "))

    cells = [[cell(value) for value in line] for line in lines]
    frame = pd.DataFrame([list(line) for line in lines], columns=list(header))
    columns = [Column(name, lambda _: TableCell(""), numeric=False) for name in header]
    return PageTable(title.lower(), title, columns, cells, frame)
