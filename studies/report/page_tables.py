"""The page's tables: text for people, keys for sorting, and CSV with every column."""

import csv
import io
from dataclasses import dataclass

import pandas as pd

from studies.progress import duration_text
from studies.report.figures import comparison_rows, task_rows, utility_rows
from studies.report.study_data import METRIC_NAMES, ROLE_NAMES, StudyData

__all__ = [
    "PageTable",
    "TableCell",
    "TableColumn",
    "count_cell",
    "estimate_cell",
    "p_value_cell",
    "page_tables",
]

_TPR_METRICS = ("tpr_at_fpr_0.1", "tpr_at_fpr_0.01")
_EPSILON_METRICS = tuple(
    metric.replace("tpr_at", "epsilon_equivalent_at") for metric in _TPR_METRICS
)
_COMPARISONS = ("auroc_difference", "swap_estimate", "auroc")
_NUMBERS = ["value", "lower", "upper", "n_members", "n_nonmembers"]


@dataclass(frozen=True)
class TableColumn:
    """A heading; numeric columns align right and sort by their keys."""

    title: str
    numeric: bool = False


@dataclass(frozen=True)
class TableCell:
    """A cell's text and, in a numeric column, its sorting key (empty where not measured)."""

    text: str
    key: str | None = None


@dataclass(frozen=True)
class PageTable:
    """A table for the page, and the frame that goes to CSV."""

    columns: list[TableColumn]
    rows: list[list[TableCell]]
    frame: pd.DataFrame

    def csv(self) -> str:
        """Returns the frame as CSV, numbers in full."""
        text = io.StringIO()
        self.frame.to_csv(text, index=False, quoting=csv.QUOTE_MINIMAL, lineterminator="\n")
        return text.getvalue()


def page_tables(data: StudyData) -> dict[str, PageTable]:
    """Returns the tables by name: membership, blind, comparisons, utility, tasks, runs."""
    return {
        "membership": _membership(data),
        "blind": _blind(data),
        "comparisons": _comparisons(data),
        "utility": _utility(data),
        "tasks": _tasks(data),
        "runs": _runs(data),
    }


def _membership(data: StudyData) -> PageTable:
    base = data.rows(audit="membership", population="private", task=None, block=None, run_b=None)
    key = ["run", "name", "params"]
    wide = data.auroc_rows().drop_duplicates(key)
    for metric in (*_TPR_METRICS, *_EPSILON_METRICS):
        part = base[base["metric"] == metric].drop_duplicates(key)[
            [*key, "value", "lower", "upper"]
        ]
        renamed = {name: f"{metric}_{name}" for name in ("value", "lower", "upper")}
        wide = wide.merge(part.rename(columns=renamed), on=key, how="left")
    columns = [
        *_text_columns("Model", "Attack"),
        TableColumn("AUROC", numeric=True),
        *(TableColumn(METRIC_NAMES[metric], numeric=True) for metric in _TPR_METRICS),
        *_count_columns(),
    ]
    rows = [
        [
            TableCell(row["label"]),
            TableCell(row["attack"]),
            estimate_cell(row),
            *(estimate_cell(row, f"{metric}_", percent=True) for metric in _TPR_METRICS),
            *_counts(row),
        ]
        for _, row in wide.iterrows()
    ]
    names = ["label", "run", "role", "technique", "size", "seed", "step", "name", "params"]
    tpr = [f"{metric}_{part}" for metric in _TPR_METRICS for part in ("value", "lower", "upper")]
    epsilon = [f"{metric}_value" for metric in _EPSILON_METRICS]
    return PageTable(columns, rows, wide[[*names, *_NUMBERS, *tpr, *epsilon]])


def _blind(data: StudyData) -> PageTable:
    """Models on the same records share a row: the text is theirs all alike."""
    frame = data.blind_rows()
    columns = [
        *_text_columns("Models", "Shifted"),
        TableColumn("AUROC of the text alone", numeric=True),
        TableColumn("p", numeric=True),
        TableColumn("Records needed a side", numeric=True),
        *_count_columns(),
    ]
    verdicts = {True: "yes", False: "no"}
    rows = [
        [
            TableCell(f"all {len(frame)}" if len(same) == len(frame) else ", ".join(same["label"])),
            TableCell(verdicts.get(same.iloc[0]["shifted"], "not excluded")),
            estimate_cell(same.iloc[0]),
            p_value_cell(same.iloc[0]["p_value"]),
            count_cell(same.iloc[0]["needed"]),
            *_counts(same.iloc[0]),
        ]
        for _, same in frame.groupby([*_NUMBERS, "p_value", "needed"], dropna=False, sort=False)
    ]
    names = ["label", "run", "shifted", "p_value", "needed"]
    return PageTable(columns, rows, frame[[*names, *_NUMBERS]])


def _comparisons(data: StudyData) -> PageTable:
    both = pd.concat([comparison_rows(data, metric) for metric in _COMPARISONS])
    columns = [
        *_text_columns("Model", "Compared with", "Attack", "Measure"),
        TableColumn("Estimate", numeric=True),
        *_count_columns(),
    ]
    rows = [
        [
            TableCell(row["label"]),
            TableCell(row["label_b"]),
            TableCell(row["attack"]),
            TableCell(METRIC_NAMES[row["metric"]]),
            estimate_cell(row),
            *_counts(row),
        ]
        for _, row in both.iterrows()
    ]
    names = ["label", "run", "label_b", "run_b", "name", "params", "metric"]
    return PageTable(columns, rows, both[[*names, *_NUMBERS]])


def _utility(data: StudyData) -> PageTable:
    frame = utility_rows(data)
    columns = [
        *_text_columns("Model", "Measure"),
        TableColumn("Value", numeric=True),
        TableColumn("Records", numeric=True),
    ]
    rows = [
        [
            TableCell(row["label"]),
            TableCell(METRIC_NAMES[row["measure"]]),
            estimate_cell(row, "utility_", value="utility"),
            count_cell(row["utility_n"]),
        ]
        for _, row in frame.iterrows()
    ]
    names = ["label", "run", "measure", "utility", "utility_lower", "utility_upper", "utility_n"]
    return PageTable(columns, rows, frame[names])


def _tasks(data: StudyData) -> PageTable:
    frame = task_rows(data)
    columns = [
        *_text_columns("Model", "Task"),
        TableColumn("AUROC", numeric=True),
        *_count_columns(),
    ]
    rows = [
        [
            TableCell(row["label"]),
            TableCell(row["task"].replace("_", " ")),
            estimate_cell(row),
            *_counts(row),
        ]
        for _, row in frame.iterrows()
    ]
    return PageTable(columns, rows, frame[["label", "run", "task", "name", "params", *_NUMBERS]])


def _runs(data: StudyData) -> PageTable:
    columns = [
        *_text_columns("Model", "Role", "Network", "State"),
        *(TableColumn(title, numeric=True) for title in ("Replicate", "Seed", "Threads", "Time")),
    ]
    rows, records = [], []
    for cell in data.plan.cells:
        seconds = data.facts.get(cell.alias, {}).get("seconds")
        shown = float(str(seconds)) if seconds is not None else None
        state = data.states[cell.id]
        rows.append(
            [
                TableCell(data.labels[cell.alias]),
                TableCell(ROLE_NAMES[cell.role]),
                TableCell(cell.size),
                TableCell(state),
                *(count_cell(number) for number in (cell.replicate, cell.seed, cell.threads)),
                TableCell("—", "")
                if shown is None
                else TableCell(duration_text(shown), f"{shown}"),
            ]
        )
        records.append(
            {
                "label": data.labels[cell.alias],
                "run": cell.alias,
                "id": cell.id,
                "role": cell.role,
                "size": cell.size,
                "state": state,
                "replicate": cell.replicate,
                "seed": cell.seed,
                "threads": cell.threads,
                "seconds": shown,
                "command": cell.command,
            }
        )
    return PageTable(columns, rows, pd.DataFrame(records))


def _text_columns(*titles: str) -> list[TableColumn]:
    return [TableColumn(title) for title in titles]


def _count_columns() -> list[TableColumn]:
    return [TableColumn("Private", numeric=True), TableColumn("Held out", numeric=True)]


def _counts(row: pd.Series) -> list[TableCell]:
    return [count_cell(row["n_members"]), count_cell(row["n_nonmembers"])]


def p_value_cell(number: float) -> TableCell:
    """Returns a p-value, or a dash where there is no test."""
    return TableCell("—", "") if pd.isna(number) else TableCell(f"{number:.2g}", f"{number:.9g}")


def count_cell(number: float) -> TableCell:
    """Returns a whole number, or a dash where there is none."""
    return TableCell("—", "") if pd.isna(number) else TableCell(f"{number:,.0f}", f"{number:.0f}")


def estimate_cell(
    row: pd.Series, prefix: str = "", *, value: str = "", percent: bool = False
) -> TableCell:
    """Returns a value with its interval; `prefix` and `value` name its columns."""
    number, lower, upper = (
        row[value or f"{prefix}value"],
        row[f"{prefix}lower"],
        row[f"{prefix}upper"],
    )
    if pd.isna(number):
        return TableCell("not measurable", "")
    style = ".1%" if percent else ".3f" if abs(number) < 100 else ".1f"
    text = format(number, style)
    if pd.notna(lower) and pd.notna(upper):
        text += f" [{format(lower, style)}, {format(upper, style)}]"
    return TableCell(text, f"{number:.9g}")
