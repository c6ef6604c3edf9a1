"""Writes the page, its tables and charts, and the main table for a terminal."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import jinja2
import pandas as pd
import vl_convert
from markupsafe import Markup
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from studies.claims import Finding
from studies.claims.output import estimate_text
from studies.plan import Plan
from studies.report import charts, forest
from studies.report.block_tables import block_tables
from studies.report.blocks import block_charts, block_entries, block_sentences
from studies.report.claims import findings_table, shown_findings
from studies.report.exports import latex, write_charts
from studies.report.figures import (
    comparison_rows,
    headline_rows,
    roc_rows,
    task_rows,
    utility_rows,
)
from studies.report.memorization import (
    memorization_charts,
    memorization_rows,
    memorization_sentences,
    memorization_table,
)
from studies.report.notices import headline, notices
from studies.report.page_tables import PageTable, page_tables
from studies.report.study_data import (
    ATTACK_NAMES,
    BLIND,
    PRIMARY_ATTACK,
    StudyData,
    read_study_data,
)
from studies.report.worst_records import (
    RevealedRecord,
    revealed,
    worst_records,
    worst_records_table,
)
from studies.tables import write_study_tables

__all__ = ["print_main_table", "write_report"]

_HERE = Path(__file__).parent
_SECTIONS = (
    ("findings", "Findings", "findings"),
    ("result", "Result", None),
    ("leaks", "Models", "attacks"),
    ("inherited", "What was added", "differences"),
    ("memorization", "Memorization", "memorization"),
    ("blocks", "Blocks", "blocks"),
    ("attacks", "Technique by attack", "heat"),
    ("roc", "ROC curves", "roc"),
    ("utility", "Risk and utility", "rouge"),
    ("tasks", "Tasks", "tasks"),
    ("methods", "Methods", None),
)


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
    tables = page_tables(data) | block_tables(data)
    if len(memorization_rows(data)):
        tables["memorization"] = memorization_table(data)
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
    specs = _specs(data)
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
    content = page_tables(read_study_data(plan, out))["membership"]
    shown = Table(title=plan.title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in content.columns:
        shown.add_column(
            column.title, justify="right" if column.numeric else "left", no_wrap=not column.numeric
        )
    for row in content.rows:
        shown.add_row(*(cell.text for cell in row))
    console.print(shown)


def _render(
    data: StudyData,
    tables: dict[str, PageTable],
    specs: dict[str, charts.Spec],
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
    colours = charts.label_colours(data)
    attacks = list(dict.fromkeys(data.auroc_rows()["attack"]))
    # `<` inside the data would end the script element; in JSON it may be written as an escape.
    encoded = json.dumps(specs, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return environment.get_template("page.html").render(
        plan=data.plan,
        sections=[
            (anchor, name)
            for anchor, name, needed in _SECTIONS
            if not needed or needed in specs or (needed == anchor and needed in tables)
        ],
        notices=notices(data, out_of_date=out_of_date),
        findings=findings,
        estimate_text=estimate_text,
        headline=headline(data),
        cards=_cards(data),
        primary=ATTACK_NAMES[PRIMARY_ATTACK],
        charts={name: name in specs for name in _CHARTS},
        memorization=memorization_sentences(data),
        blocks=block_sentences(data),
        block_entries=block_entries(data),
        revealed=shown,
        tables=tables,
        attacks=attacks,
        attack_entries=[(name, c, False) for name, c in charts.attack_colours(attacks).items()],
        blind_entry=(ATTACK_NAMES[BLIND], charts.NEUTRAL, False),
        run_entries=[(label, c, dash != [1, 0]) for label, (c, dash) in colours.items()],
        labels=data.labels,
        versions=_versions(data),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        specs=Markup(encoded),
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        vega=Markup(_vega()),
        script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
    )


@cache
def _vega() -> str:
    """Returns the charts' JavaScript, the same for every page and seconds in the making."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script")


_CHARTS = (
    "attacks differences swaps heat roc roc_log rouge perplexity tasks conditional did exposure "
    "block_heat block_profiles block_probes"
).split()


def _specs(data: StudyData) -> dict[str, charts.Spec]:
    """Returns the charts that the study has rows for."""
    colours = charts.label_colours(data)
    aurocs = data.auroc_rows()
    aurocs = aurocs[aurocs["value"].notna()]
    differences = comparison_rows(data, "auroc_difference")
    swaps = comparison_rows(data, "swap_estimate")
    roc = roc_rows(data)
    tasks = task_rows(data)
    tasks = tasks[tasks["value"].notna()]
    specs: dict[str, charts.Spec] = {}
    if len(aurocs):
        blind = data.blind_rows()
        specs["attacks"] = forest.attack_chart(aurocs, blind[blind["value"].notna()])
        specs["heat"] = charts.heat_map(aurocs)
    if len(differences):
        title = "Difference of AUROC"
        specs["differences"] = forest.difference_chart(differences, title, 0.0)
    if len(swaps):
        specs["swaps"] = forest.difference_chart(swaps, "Swap estimate of AUROC", 0.5)
    if len(roc):
        specs["roc"] = charts.roc_chart(roc, colours, log=False)
        specs["roc_log"] = charts.roc_chart(roc, colours, log=True)
    if len(tasks):
        specs["tasks"] = charts.task_chart(tasks)
    return specs | _utility_specs(data, colours) | memorization_charts(data) | block_charts(data)


def _utility_specs(
    data: StudyData, colours: dict[str, tuple[str, list[int]]]
) -> dict[str, charts.Spec]:
    rows = utility_rows(data)
    specs = {}
    for name, measure, title in (
        ("rouge", "rouge_l_f1", "ROUGE-L F1"),
        ("perplexity", "perplexity", "Perplexity (log scale)"),
    ):
        chosen = rows[(rows["measure"] == measure) & rows["utility"].notna()]
        if len(chosen):
            records = " and ".join(sorted(set(chosen["measured_on"])))
            specs[name] = charts.utility_chart(
                chosen, colours, f"{title}, {records} records", log=measure == "perplexity"
            )
    return specs


def _cards(data: StudyData) -> list[dict[str, str]]:
    """Returns the key figures: teacher, students, control, and what the private records added."""
    runs = headline_rows(data)
    runs = runs[runs["role"].isin(("teacher", "student", "control"))]
    cards = [_card(row, f"{row['label']}: AUROC") for _, row in runs.iterrows()]
    for metric, what in (
        ("auroc_difference", "minus its counterfactual"),
        ("swap_estimate", "swap estimate"),
    ):
        rows = comparison_rows(data, metric)
        rows = rows[
            (rows["name"] == PRIMARY_ATTACK)
            & (rows["role"] == "student")
            & rows["label_b"].str.startswith("Counterfactual")
        ]
        cards += [_card(row, f"{row['label']}: {what}") for _, row in rows.iterrows()]
    return cards


def _card(row: pd.Series, what: str) -> dict[str, str]:
    measured = pd.notna(row["value"]) and pd.notna(row["lower"])
    return {
        "what": what,
        "value": f"{row['value']:.3f}" if pd.notna(row["value"]) else "—",
        "interval": f"[{row['lower']:.3f}, {row['upper']:.3f}]" if measured else "not measurable",
        "note": f"n = {row['n_members']:.0f} private + {row['n_nonmembers']:.0f}",
    }


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
