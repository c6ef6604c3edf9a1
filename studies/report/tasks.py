"""The page's section on tasks: each at the same number of records and the same lengths."""

from collections.abc import Iterator, Mapping

import altair as alt
import pandas as pd

from studies.compare.memorization import TOKEN_ACCURACY
from studies.compare.task_rows import EQUAL_LENGTHS, RESPONSE_TOKENS
from studies.plan.cells import Cell
from studies.report.charts import NEUTRAL, Spec, chart_spec, estimate_tooltips, label_colours
from studies.report.over_replicates import FIGURE, figure_of
from studies.report.page_tables import PageTable, TableCell, TableColumn, estimate_cell
from studies.report.study_data import ROLE_NAMES, StudyData

__all__ = ["task_charts", "task_figures", "task_sentences", "task_tables"]

# Chart, metric, whose rows (a measure's; None: the primary attack's), title of the axis, its null.
_MEASURES = {
    "task_auroc": ("auroc", None, "AUROC", 0.5),
    "task_swap": ("swap_estimate", None, "Swap estimate of AUROC", 0.5),
    "task_gap": (f"{TOKEN_ACCURACY}_gap", TOKEN_ACCURACY, "Gap in token accuracy", 0.0),
    "task_gap_excess": (
        f"{TOKEN_ACCURACY}_gap_excess",
        TOKEN_ACCURACY,
        "Gap minus the counterfactual’s",
        0.0,
    ),
}
_ROLES = ("teacher", "student", "control")


def task_figures(data: StudyData) -> pd.DataFrame:
    """Returns a row per model, task and measure at equal numbers and lengths.

    Returns:
        Columns `measure` (name of the chart), label (role, technique, size), role, task, the
        estimate with its counts, and `tokens`, `all_tokens`: mean length of the task's responses
        as matched and of all of them. Empty where lengths were not measured.
    """
    rows = [
        {"measure": name, "label": label, "role": role, "task": task} | figure_of(own)
        for name, found in _measured(data)
        for (label, role, task), own in found.groupby(["label", "role", "task"], sort=False)
    ]
    names = ["measure", "label", "role", "task", *FIGURE, "tokens", "all_tokens"]
    frame = pd.DataFrame(rows, columns=names)
    for column, ending in (("tokens", EQUAL_LENGTHS), ("all_tokens", "")):
        lengths = data.rows(metric=RESPONSE_TOKENS + ending).groupby("task")["value"].mean()
        frame[column] = frame["task"].map(lengths)
    return frame


def _measured(data: StudyData) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yields the rows of each chart, `label` without replicate and seed, against swaps alone."""
    roles = {cell.alias: str(cell.role) for cell in data.cells}
    runs = pd.DataFrame(
        [(cell.alias, label, cell.role, cell.replicate) for cell, label in _labels(data)],
        columns=["run", "label", "role", "replicate"],
    )
    for chart, (metric, name, _, _) in _MEASURES.items():
        rows = data.rows(metric=metric + EQUAL_LENGTHS)
        rows = data.of_primary(rows) if name is None else rows[rows["name"] == name]
        others = rows["run_b"].map(roles)
        rows = rows[others.isna() | others.str.startswith("counterfactual").fillna(False)]
        own = [one for one in rows.columns if one not in ("label", "role")]
        yield chart, rows[own].merge(runs, on="run")


def _labels(data: StudyData) -> Iterator[tuple[Cell, str]]:
    """Yields the teachers, students and controls with what they are called over all replicates."""
    shown = [cell for cell in data.cells if cell.role in _ROLES]
    several = len({cell.size for cell in shown if cell.role != _ROLES[0]}) > 1
    for cell in shown:
        size = cell.size if several and cell.role != _ROLES[0] else None
        parts = (ROLE_NAMES[cell.role], cell.technique, size)
        yield cell, " · ".join(part for part in parts if part)


def task_sentences(data: StudyData) -> list[str]:
    """Returns what makes tasks comparable here, with the numbers; empty without a comparison."""
    frame = task_figures(data)
    if not frame["value"].notna().any():
        return []
    lengths = frame.drop_duplicates("task")
    n, m = (frame[name].min() for name in ("n_members", "n_nonmembers"))
    return [
        f"Every task counts with {n:.0f} private and {m:.0f} held-out records, or more in some "
        f"runs, whose responses have {lengths['tokens'].min():.0f} to "
        f"{lengths['tokens'].max():.0f} tokens in the mean; of all records it is "
        f"{lengths['all_tokens'].min():.0f} to {lengths['all_tokens'].max():.0f}. What is left of "
        "a difference between tasks is not one of length."
    ]


def task_charts(data: StudyData) -> dict[str, Spec]:
    """Returns risk and memorization by task at equal lengths, and what the teacher adds to both."""
    frame = task_figures(data)
    frame = frame[frame["value"].notna()]
    own = label_colours(data)
    colours = {label: own[data.labels[cell.alias]][0] for cell, label in _labels(data)}
    return {
        chart: _intervals(frame[frame["measure"] == chart], colours, title, null)
        for chart, (_, _, title, null) in _MEASURES.items()
        if (frame["measure"] == chart).any()
    }


def _intervals(rows: pd.DataFrame, colours: Mapping[str, str], title: str, null: float) -> Spec:
    frame = rows.drop(columns="measure").assign(task=rows["task"].str.replace("_", " "))
    labels = list(dict.fromkeys(frame["label"]))
    base = alt.Chart(frame).encode(
        y=alt.Y("task:N", title=None, axis=alt.Axis(ticks=False, domain=False, labelLimit=160)),
        yOffset=alt.YOffset("label:N", sort=labels),
        color=alt.Color(
            "label:N",
            sort=labels,
            title=None,
            scale=alt.Scale(domain=labels, range=[colours[one] for one in labels]),
            legend=alt.Legend(orient="bottom", columns=2, labelLimit=260),
        ),
        tooltip=[
            alt.Tooltip("label:N", title="Model"),
            alt.Tooltip("task:N", title="Task"),
            *estimate_tooltips(),
            alt.Tooltip("replicates:Q", title="Replicates"),
            alt.Tooltip("tokens:Q", title="Tokens, matched", format=".1f"),
        ],
    )
    scale = alt.Scale(zero=False, padding=12, nice=False)
    bars = base.mark_rule(strokeWidth=2, opacity=0.75).encode(
        x=alt.X("lower:Q", title=title, scale=scale), x2="upper:Q"
    )
    points = base.mark_point(filled=True, size=46, opacity=1).encode(
        x=alt.X("value:Q", title=title, scale=scale)
    )
    chance = (
        alt.Chart(pd.DataFrame({"null": [null]}))
        .mark_rule(strokeDash=[4, 4], color=NEUTRAL)
        .encode(x="null:Q")
    )
    height = frame["task"].nunique() * (14 + 9 * len(labels))
    return chart_spec(alt.layer(chance, bars, points), height=height)


def task_tables(data: StudyData) -> dict[str, PageTable]:
    """Returns the table `task_differences`: a row per model and task, every measure with n."""
    frame = task_figures(data)
    if not len(frame):
        return {}
    shown = [name for name in _MEASURES if (frame["measure"] == name).any()]
    counts = {
        "replicates": "Replicates",
        "n_members": "Private",
        "n_nonmembers": "Held out",
        "tokens": "Tokens, matched",
        "all_tokens": "Tokens, all",
    }
    columns = [
        *(TableColumn(title) for title in ("Model", "Task")),
        *(TableColumn(_MEASURES[name][2], numeric=True) for name in shown),
        *(TableColumn(title, numeric=True) for title in counts.values()),
    ]
    rows = []
    for (label, task), own in frame.groupby(["label", "task"], sort=False):
        by_measure = {str(one["measure"]): one for _, one in own.iterrows()}
        figures = [
            estimate_cell(by_measure[name]) if name in by_measure else TableCell("—", "")
            for name in shown
        ]
        numbers = [_number(own[name].iloc[0], name) for name in counts]
        named = [TableCell(str(label)), TableCell(str(task).replace("_", " "))]
        rows.append([*named, *figures, *numbers])
    return {"task_differences": PageTable(columns, rows, frame)}


def _number(value: float, name: str) -> TableCell:
    if pd.isna(value):
        return TableCell("—", "")
    return TableCell(format(value, ",.1f" if "tokens" in name else ",.0f"), f"{value:.6g}")
