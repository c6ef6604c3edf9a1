"""The page's sections in their order, and what is measured for them: charts, tables, sentences.

A further section is an entry of `SECTIONS`, a template `section_<id>.html` beside this file, and
whatever makes its charts and tables in `CHART_MAKERS` and `TABLE_MAKERS`.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

from studies.report.any_leak import any_leak_tables
from studies.report.block_tables import block_tables
from studies.report.blocks import block_charts, block_entries, block_sentences
from studies.report.charts import Spec
from studies.report.headline import headline_values
from studies.report.memorization import (
    disagreement_sentences,
    memorization_charts,
    memorization_sentences,
    memorization_tables,
)
from studies.report.objectives import objective_charts, objective_tables
from studies.report.page_tables import PageTable
from studies.report.published_page import published_charts, published_tables, published_values
from studies.report.result_charts import attack_values, membership_charts, utility_charts
from studies.report.result_tables import result_tables
from studies.report.risk_utility import risk_utility_charts, risk_utility_tables
from studies.report.sizes import size_charts
from studies.report.study_data import StudyData
from studies.report.tasks import task_charts, task_sentences, task_tables
from studies.report.training import training_charts, training_tables

__all__ = ["SECTIONS", "Section", "section_charts", "section_tables", "section_values"]


@dataclass(frozen=True)
class Section:
    """A part of the page; shown where one of its charts is drawn or one of its tables has rows.

    Attributes:
        id: Anchor; the template is `section_<id>.html`.
        title: What the navigation calls it.
        charts: Names of the charts that it may have.
        tables: Names of the tables that it may have.
        always: Whether it is shown without any.
    """

    id: str
    title: str
    charts: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    always: bool = False

    def shown(self, charts: Container[str], tables: Mapping[str, PageTable]) -> bool:
        """Returns whether the page has the section."""
        drawn = any(name in charts for name in self.charts)
        filled = any(name in tables and tables[name].rows for name in self.tables)
        return self.always or drawn or filled


SECTIONS = (
    Section("findings", "Findings", tables=("findings",)),
    Section("result", "Result", always=True),
    Section("attacks", "Technique by attack", ("heat", "gap_heat", "rouge_heat")),
    Section("leaks", "Models", ("attacks",), ("membership", "any_leak", "blind")),
    Section("roc", "ROC curves", ("roc", "roc_log")),
    Section(
        "utility",
        "Risk and utility",
        ("rouge", "perplexity", "risk_utility"),
        ("utility", "risk_utility"),
    ),
    Section("inherited", "What was added", ("differences", "swaps"), ("comparisons",)),
    Section(
        "memorization",
        "Memorization",
        ("conditional", "did", "exposure"),
        ("memorization", "worst_records"),
    ),
    Section("disagreement", "Disagreement", tables=("disagreement",)),
    Section(
        "blocks",
        "Blocks",
        ("block_profiles", "block_heat", "block_probes"),
        ("block_tests", "block_probes", "blocks"),
    ),
    Section(
        "tasks",
        "Tasks",
        ("tasks", "task_auroc", "task_swap", "task_gap", "task_gap_excess"),
        ("tasks", "task_differences"),
    ),
    Section(
        "objectives",
        "Objectives",
        ("objective_auroc", "objective_excess", "objective_rouge"),
        ("objectives",),
    ),
    Section("training", "During training", ("training_auroc", "training_gap"), ("training",)),
    Section("published", "Published figures", ("published",), ("published",)),
    Section("methods", "Methods", tables=("runs",), always=True),
)
CHART_MAKERS: tuple[Callable[[StudyData], dict[str, Spec]], ...] = (
    membership_charts,
    size_charts,
    utility_charts,
    risk_utility_charts,
    memorization_charts,
    block_charts,
    training_charts,
    published_charts,
    task_charts,
    objective_charts,
)
TABLE_MAKERS: tuple[Callable[[StudyData], dict[str, PageTable]], ...] = (
    result_tables,
    any_leak_tables,
    block_tables,
    memorization_tables,
    risk_utility_tables,
    training_tables,
    published_tables,
    task_tables,
    objective_tables,
)


def section_charts(data: StudyData) -> dict[str, Spec]:
    """Returns the charts that the study has rows for, by name."""
    return {name: spec for make in CHART_MAKERS for name, spec in make(data).items()}


def section_tables(data: StudyData) -> dict[str, PageTable]:
    """Returns the tables of the study's results, by name; beside each run, what of it ran."""
    tables = {name: table for make in TABLE_MAKERS for name, table in make(data).items()}
    return {name: table.noted(data.notes) for name, table in tables.items()}


def section_values(data: StudyData) -> dict[str, object]:
    """Returns what the sections' templates read besides charts and tables: sentences, legends."""
    return {
        **headline_values(data),
        **attack_values(data),
        **published_values(data),
        "memorization": memorization_sentences(data),
        "disagreement": disagreement_sentences(data),
        "blocks": block_sentences(data),
        "block_entries": block_entries(data),
        "task_sentences": task_sentences(data),
    }
