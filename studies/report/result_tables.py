"""Tables of results: a row per run or, where runs repeat each other, per kind of run."""

from collections.abc import Mapping, Sequence

import pandas as pd

from studies.report.attack_notes import attack_notes
from studies.report.figures import comparison_rows, task_rows, utility_rows
from studies.report.over_replicates import over_replicates
from studies.report.page_tables import (
    PageTable,
    TableCell,
    TableColumn,
    count_cell,
    estimate_cell,
    p_value_cell,
)
from studies.report.study_data import METRIC_NAMES, ROLE_NAMES, StudyData
from studies.run.progress import duration_text

__all__ = ["membership_table", "result_tables"]

_TPR_METRICS = ("tpr_at_fpr_0.1", "tpr_at_fpr_0.01")
_EPSILON_METRICS = tuple(
    metric.replace("tpr_at", "epsilon_equivalent_at") for metric in _TPR_METRICS
)
_COMPARISONS = ("auroc_difference", "swap_estimate", "auroc")
_ESTIMATE = ["value", "lower", "upper"]
_NUMBERS = [*_ESTIMATE, "n_members", "n_nonmembers"]


def result_tables(data: StudyData) -> dict[str, PageTable]:
    """Returns the tables by name: membership, blind, comparisons, utility, tasks, runs.

    Of several replicates membership, comparisons, utility and tasks show means over them; what goes
    to CSV is every run's own figure either way.
    """
    return {
        "membership": membership_table(data),
        "blind": _blind(data),
        "comparisons": _comparisons(data),
        "utility": _utility(data),
        "tasks": _tasks(data),
        "runs": _runs(data),
    }


def membership_table(data: StudyData) -> PageTable:
    """Returns AUROC and TPR of every attack, private against held-out records."""
    base = data.rows(audit="membership", population="private", task=None, block=None, run_b=None)
    key = ["run", "name", "params"]
    wide = data.auroc_rows().drop_duplicates(key)
    for metric in (*_TPR_METRICS, *_EPSILON_METRICS):
        part = base[base["metric"] == metric].drop_duplicates(key)[[*key, *_ESTIMATE]]
        renamed = {name: f"{metric}_{name}" for name in _ESTIMATE}
        wide = wide.merge(part.rename(columns=renamed), on=key, how="left")
    columns = [
        *_text_columns("Model", "Attack"),
        TableColumn("AUROC", numeric=True),
        *(TableColumn(METRIC_NAMES[metric], numeric=True) for metric in _TPR_METRICS),
        *_count_columns(data),
    ]
    notes = attack_notes(data)
    rows = [
        [
            TableCell(row["label"]),
            _attack_cell(row, notes),
            estimate_cell(row),
            *(_tpr_cell(row, metric) for metric in _TPR_METRICS),
            *_counts(data, row),
        ]
        for _, row in _means(data, wide, ["attack"], _TPR_METRICS).iterrows()
    ]
    names = ["label", "run", "role", "technique", "size", "seed", "step", "name", "params"]
    tpr = [f"{metric}_{part}" for metric in _TPR_METRICS for part in _ESTIMATE]
    epsilon = [f"{metric}_value" for metric in _EPSILON_METRICS]
    return PageTable(columns, rows, wide[[*names, *_NUMBERS, *tpr, *epsilon]])


def _attack_cell(row: pd.Series, notes: Mapping[tuple[str, str], str]) -> TableCell:
    """Returns an attack's name with what must be known of it."""
    note = notes.get((row["label"], row["attack"]))
    return TableCell(f"{row['attack']} ({note})" if note else row["attack"])


def _means(
    data: StudyData, rows: pd.DataFrame, key: Sequence[str], more: Sequence[str] = ()
) -> pd.DataFrame:
    """Returns rows over replicates, with those of further estimates, whose columns `more` begin."""
    means = over_replicates(data, rows, key)
    if not data.replicated:
        return means
    for name in more:
        own = {part: rows[f"{name}_{part}"] for part in _ESTIMATE}
        columns = [*_ESTIMATE, "replicates"]
        part = over_replicates(data, rows.assign(metric=name, **own), key)
        part = part[["label", *key, *columns]]
        renamed = {one: f"{name}_{one}" for one in columns}
        means = means.merge(part.rename(columns=renamed), on=["label", *key])
    return means


def _tpr_cell(row: pd.Series, metric: str) -> TableCell:
    """Returns a TPR, with the number of its replicates where some have too few records for it."""
    cell = estimate_cell(row, f"{metric}_", percent=True)
    measured = row.get(f"{metric}_replicates")
    if measured is None or measured == row["replicates"] or pd.isna(row[f"{metric}_value"]):
        return cell
    return TableCell(f"{cell.text} (R = {measured})", cell.key)


def _blind(data: StudyData) -> PageTable:
    """Models on the same records share a row: the text is theirs all alike."""
    frame = data.blind_rows()
    columns = [
        *_text_columns("Models", "Shifted"),
        TableColumn("AUROC of the text alone", numeric=True),
        TableColumn("p", numeric=True),
        TableColumn("Records needed a side", numeric=True),
        *(TableColumn(title, numeric=True) for title in ("Private", "Held out")),
    ]
    verdicts = {True: "yes", False: "no"}
    rows = [
        [
            TableCell(_models(data, frame, same)),
            TableCell(verdicts.get(same.iloc[0]["shifted"], "not excluded")),
            estimate_cell(same.iloc[0]),
            p_value_cell(same.iloc[0]["p_value"]),
            count_cell(same.iloc[0]["needed"]),
            count_cell(same.iloc[0]["n_members"]),
            count_cell(same.iloc[0]["n_nonmembers"]),
        ]
        for _, same in frame.groupby([*_NUMBERS, "p_value", "needed"], dropna=False, sort=False)
    ]
    names = ["label", "run", "shifted", "p_value", "needed"]
    return PageTable(columns, rows, frame[[*names, *_NUMBERS]])


def _models(data: StudyData, every: pd.DataFrame, same: pd.DataFrame) -> str:
    """Names runs by their labels, or as all of the study or of a replicate."""
    if len(same) == len(every):
        return f"all {len(same)}"
    replicates = {cell.alias: cell.replicate for cell in data.cells}
    own = set(same["run"].map(replicates))
    if len(own) == 1 and len(same) == every["run"].map(replicates).isin(own).sum() > 1:
        return f"all {len(same)} of r{own.pop()}"
    return ", ".join(same["label"])


def _comparisons(data: StudyData) -> PageTable:
    both = pd.concat([comparison_rows(data, metric) for metric in _COMPARISONS])
    shown = both.drop(columns="pair")
    if data.replicated:
        shown = shown.assign(label_b=shown["run_b"].map(data.kinds))
    columns = [
        *_text_columns("Model", "Compared with", "Attack", "Measure"),
        TableColumn("Estimate", numeric=True),
        *_count_columns(data),
    ]
    rows = [
        [
            TableCell(row["label"]),
            TableCell(row["label_b"]),
            TableCell(row["attack"]),
            TableCell(METRIC_NAMES[row["metric"]]),
            estimate_cell(row),
            *_counts(data, row),
        ]
        for _, row in over_replicates(data, shown, ["label_b", "attack", "metric"]).iterrows()
    ]
    names = ["label", "run", "label_b", "run_b", "name", "params", "metric"]
    return PageTable(columns, rows, both[[*names, *_NUMBERS]])


def _utility(data: StudyData) -> PageTable:
    frame = utility_rows(data)
    shown = frame.assign(
        **{name: frame[f"utility_{name}"] for name in ("lower", "upper")},
        metric=frame["measure"],
        value=frame["utility"],
        n_members=frame["utility_n"],
    )
    columns = [
        *_text_columns("Model", "Measure"),
        TableColumn("Value", numeric=True),
        *_count_columns(data, "Records"),
    ]
    rows = [
        [
            TableCell(row["label"]),
            TableCell(METRIC_NAMES[row["measure"]]),
            estimate_cell(row),
            *_counts(data, row, "n_members"),
        ]
        for _, row in over_replicates(data, shown, ["measure"]).iterrows()
    ]
    names = ["label", "run", "measure", "utility", "utility_lower", "utility_upper", "utility_n"]
    return PageTable(columns, rows, frame[names])


def _tasks(data: StudyData) -> PageTable:
    frame = task_rows(data)
    columns = [
        *_text_columns("Model", "Task"),
        TableColumn("AUROC", numeric=True),
        *_count_columns(data),
    ]
    rows = [
        [
            TableCell(row["label"]),
            TableCell(row["task"].replace("_", " ")),
            estimate_cell(row),
            *_counts(data, row),
        ]
        for _, row in over_replicates(data, frame, ["task"]).iterrows()
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
                "repeat": cell.repeat,
                "seed": cell.seed,
                "threads": cell.threads,
                "seconds": shown,
                "command": cell.command,
            }
        )
    return PageTable(columns, rows, pd.DataFrame(records))


def _text_columns(*titles: str) -> list[TableColumn]:
    return [TableColumn(title) for title in titles]


def _count_columns(data: StudyData, *titles: str) -> list[TableColumn]:
    """Returns the columns of counts: of replicates where there are several, and of records."""
    first = ("Replicates",) if data.replicated else ()
    every = (*first, *(titles or ("Private", "Held out")))
    return [TableColumn(title, numeric=True) for title in every]


def _counts(data: StudyData, row: pd.Series, *names: str) -> list[TableCell]:
    first = ("replicates",) if data.replicated else ()
    every = (*first, *(names or ("n_members", "n_nonmembers")))
    return [count_cell(row[name]) for name in every]
