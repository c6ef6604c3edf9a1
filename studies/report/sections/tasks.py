"""By task: each at the same number of records and the same lengths, and all records of each."""

from collections.abc import Iterator, Mapping

import altair as alt
import pandas as pd

from common.prose import prose
from studies.compare.memorization import TOKEN_ACCURACY
from studies.compare.task_rows import EQUAL_LENGTHS, RESPONSE_TOKENS
from studies.plan.cells import Cell
from studies.report import tables
from studies.report.charts import Spec, chart_spec, label_colours, null_line, tooltips
from studies.report.heat_maps import heat_map
from studies.report.labels import ROLE_NAMES
from studies.report.over_replicates import FIGURE, figure_of, over_replicates, wide_figures
from studies.report.parts import Chart, Fold, Pair, Part, Text, section
from studies.report.study_data import StudyData

_GAP = f"{TOKEN_ACCURACY}_gap"
# Chart -> metric, whose rows (a measure's; None: the primary attack's), value where nothing leaks.
_MEASURES = {
    "task_auroc": ("auroc", None, 0.5),
    "task_swap": ("swap_estimate", None, 0.5),
    "task_gap": (_GAP, TOKEN_ACCURACY, 0.0),
    "task_gap_excess": (f"{_GAP}_excess", TOKEN_ACCURACY, 0.0),
}
_PAIRS = (("task_auroc", "task_swap"), ("task_gap", "task_gap_excess"))
_ROLES = ("teacher", "student", "control")
_SAYS = prose(__file__)


@section("tasks", "By task")
def tasks(data: StudyData) -> Iterator[Part]:
    """Yields risk and memorization by task, and what the teacher adds to both."""
    frame = task_figures(data)
    measured = frame[frame["value"].notna()]
    if len(measured):
        yield Text(_sentence(frame))
    colours = label_colours(data)
    by_label = {label: colours[data.labels[cell.alias]][0] for cell, label in _labels(data)}
    for pair in _PAIRS:
        drawn = []
        for name in pair:
            said = _SAYS[name]
            rows = measured[measured["measure"] == name]
            if len(rows):
                spec = _intervals(rows, by_label, said["axis"], _MEASURES[name][-1])
                caption = said["caption"].format(data.primary_name)
                drawn.append(Chart(name, spec, caption, said["title"]))
        if drawn:
            yield Pair(drawn)
    if len(frame):
        summary = "Figures at equal numbers and lengths, with intervals and counts"
        yield Fold(summary, [_equal_table(data, frame)])
    whole = _task_rows(data)
    whole = whole[whole["value"].notna()]
    if len(whole):
        rows = over_replicates(data, whole.assign(task=tables.spoken(whole["task"])), ["task"])
        spec = heat_map(rows, "task", order=sorted(rows["task"].unique()))
        title = "All records of each task" if len(measured) else ""
        yield Chart("tasks", spec, _SAYS["map"].format(data.primary_name), title)
    yield Fold("Figures with intervals and counts", [task_table(data)])


def task_figures(data: StudyData) -> pd.DataFrame:
    """Returns a row per model, task and measure at equal numbers and lengths.

    Returns:
        Columns `measure` (name of the chart), label (role, technique, size), role, task, the
        estimate with its counts, and `tokens`, `all_tokens`: mean length of the task's responses
        as matched and of all of them. Empty where lengths were not measured.
    """
    rows = [
        {"measure": name, "label": label, "role": role, "task": task} | figure_of(own)
        for name, measured in _measured(data)
        for (label, role, task), own in measured.groupby(["label", "role", "task"], sort=False)
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
    for chart, (metric, name, _) in _MEASURES.items():
        rows = data.rows(metric=metric + EQUAL_LENGTHS)
        rows = data.of_primary(rows) if name is None else rows[rows["name"] == name]
        others = rows["run_b"].map(roles)
        rows = rows[others.isna() | others.str.startswith("counterfactual").fillna(False)]
        yield chart, rows.drop(columns=["label", "role"], errors="ignore").merge(runs, on="run")


def _labels(data: StudyData) -> Iterator[tuple[Cell, str]]:
    """Yields the teachers, students and controls with what they are called over all replicates."""
    shown = [cell for cell in data.cells if cell.role in _ROLES]
    several = len({cell.size for cell in shown if cell.role != _ROLES[0]}) > 1
    for cell in shown:
        size = cell.size if several and cell.role != _ROLES[0] else None
        parts = (ROLE_NAMES[cell.role], cell.technique or cell.defence, size)
        yield cell, " · ".join(part for part in parts if part)


def _sentence(frame: pd.DataFrame) -> str:
    """Returns what makes tasks comparable here, with the numbers."""
    lengths = frame.drop_duplicates("task")
    spans = {
        name: f"{lengths[name].min():.0f} to {lengths[name].max():.0f}"
        for name in ("tokens", "all_tokens")
    }
    n, m = (frame[name].min() for name in ("n_members", "n_nonmembers"))
    return _SAYS["sentence"].format(n=n, m=m, **spans)


def _intervals(rows: pd.DataFrame, colours: Mapping[str, str], title: str, null: float) -> Spec:
    frame = rows.drop(columns="measure").assign(task=tables.spoken(rows["task"]))
    labels = list(dict.fromkeys(frame["label"]))
    base = alt.Chart(frame).encode(
        y=alt.Y("task:N", title=None, axis=alt.Axis(ticks=False, domain=False, labelLimit=160)),
        yOffset=alt.YOffset("label:N", sort=labels),
        color=alt.Color(
            "label:N",
            sort=labels,
            title=None,
            scale=alt.Scale(domain=labels, range=[colours[label] for label in labels]),
            legend=alt.Legend(orient="bottom", columns=2, labelLimit=260),
        ),
        tooltip=[
            *tooltips(("label:N", "Model"), ("task:N", "Task")),
            *tooltips(
                *(("replicates:Q", "Replicates"), ("tokens:Q", "Tokens, matched", ".1f")),
                estimate=False,
            ),
        ],
    )
    scale = alt.Scale(zero=False, padding=12, nice=False)
    bars = base.mark_rule(strokeWidth=2, opacity=0.75).encode(
        x=alt.X("lower:Q", title=title, scale=scale), x2="upper:Q"
    )
    points = base.mark_point(filled=True, size=46, opacity=1).encode(
        x=alt.X("value:Q", title=title, scale=scale)
    )
    height = frame["task"].nunique() * (14 + 9 * len(labels))
    return chart_spec(alt.layer(null_line(null), bars, points), height=height)


def _equal_table(data: StudyData, frame: pd.DataFrame) -> tables.PageTable:
    """A row per model and task, every measure with its counts."""
    shown = wide_figures(frame.assign(spoken=tables.spoken(frame["task"])), ["label", "task"])
    columns = [
        *tables.words(data.notes, label="Model", spoken="Task"),
        *(
            tables.estimate(_SAYS[name]["axis"], f"{name}_")
            for name in _MEASURES
            if (frame["measure"] == name).any()
        ),
        *tables.counts(True),
        *(
            tables.number("Tokens, matched", "tokens", ",.1f"),
            tables.number("Tokens, all", "all_tokens", ",.1f"),
        ),
    ]
    caption = "Tasks at equal numbers of records and lengths of responses"
    return tables.table("task_differences", caption, columns, shown, frame)


def _task_rows(data: StudyData) -> pd.DataFrame:
    """Returns the primary attack's AUROC per run and task."""
    rows = data.rows(
        audit="membership", metric="auroc", population="private", block=None, run_b=None
    )
    rows = data.of_primary(rows)
    return rows[rows["task"].notna()].drop_duplicates(["run", "task"])


def task_table(data: StudyData) -> tables.PageTable:
    """Returns membership by task, on all records."""
    frame = _task_rows(data)
    shown = over_replicates(data, frame, ["task"])
    columns = [
        *tables.words(data.notes, label="Model", spoken="Task"),
        *(tables.estimate("AUROC"), *tables.counts(data.replicated)),
    ]
    shown = shown.assign(spoken=tables.spoken(shown["task"].astype(str)))
    named = ["label", "run", "task", "name", "params"]
    return tables.table(
        "tasks", "Membership by task", columns, shown, frame[[*named, *tables.ESTIMATE]]
    )
