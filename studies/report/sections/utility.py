"""Risk beside utility: AUROC of the primary attack, ROUGE-L and perplexity of every run."""

from collections.abc import Iterator

import altair as alt
import pandas as pd

from common.prose import prose
from studies.report import charts, tables
from studies.report.labels import metric_title
from studies.report.over_replicates import over_replicates
from studies.report.parts import Chart, Legend, Pair, Part, section
from studies.report.study_data import StudyData

_SAYS = prose(__file__)


@section("utility", "Risk beside utility")
def utility(data: StudyData) -> Iterator[Part]:
    """Yields the runs by risk and utility, and the table of utility."""
    colours = charts.label_colours(data, data.kinds)
    rows = utility_rows(data)
    yield Legend("Runs", charts.legend_entries(colours))
    drawn = []
    for name, measure in (("rouge", "rouge_l_f1"), ("perplexity", "perplexity")):
        chosen = rows[(rows["measure"] == measure) & rows["utility"].notna()]
        if len(chosen):
            records = " and ".join(sorted(set(chosen["measured_on"])))
            means, log = mean_utility(data, chosen), measure == "perplexity"
            said = _SAYS[name]
            spec = _chart(means, colours, f"{said['axis']}, {records} records", log=log)
            caption = said["caption"].format(data.primary_name)
            drawn.append(Chart(name, spec, caption, said["title"]))
    yield from (Pair(drawn), utility_table(data))


def utility_rows(data: StudyData) -> pd.DataFrame:
    """Returns one row per run and utility measure beside the primary attack's AUROC.

    Columns: label, role, measure, measured_on (population), utility, utility_lower, utility_upper,
    utility_n, and of the AUROC value, lower, upper, n_members, n_nonmembers.
    """
    rows = data.rows(audit="utility", task=None)
    rows = rows[rows["metric"].isin(("rouge_l_f1", "perplexity"))]
    rows = rows.drop_duplicates(["run", "metric"])
    rows = rows.assign(utility_n=rows["n_members"].fillna(rows["n_nonmembers"]))
    renamed = {
        **{"metric": "measure", "population": "measured_on", "value": "utility"},
        **{"lower": "utility_lower", "upper": "utility_upper"},
    }
    rows = rows[["run", *renamed, "utility_n"]].rename(columns=renamed)
    return data.primary_rows().merge(rows, on="run")


def mean_utility(data: StudyData, rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with means over replicates, of utility too, where there are several.

    Seeds are averaged within their replicate first, as those of the AUROC are.
    """
    means = over_replicates(data, rows)
    if not data.replicated:
        return means
    used = rows.assign(metric=rows["measure"], value=rows["utility"], n_members=rows["utility_n"])
    columns = {"value": "utility", "n_members": "utility_n"}
    used = over_replicates(data, used)[["label", *columns]].rename(columns=columns)
    return means.merge(used, on="label")


def utility_table(data: StudyData) -> tables.PageTable:
    """Returns every run's utility."""
    frame = utility_rows(data)
    shown = frame.assign(
        **{name: frame[f"utility_{name}"] for name in ("lower", "upper")},
        metric=frame["measure"],
        value=frame["utility"],
        n_members=frame["utility_n"],
    )
    shown = over_replicates(data, shown, ["measure"])
    shown = shown.assign(measure=shown["measure"].map(metric_title))
    columns = [
        *tables.words(data.notes, label="Model", measure="Measure"),
        tables.estimate("Value"),
        *tables.counts(data.replicated, n_members="Records"),
    ]
    used = ["utility", "utility_lower", "utility_upper", "utility_n"]
    return tables.table(
        "utility", "Utility", columns, shown, frame[["label", "run", "measure", *used]]
    )


def _chart(rows: pd.DataFrame, colours: charts.Colours, title: str, *, log: bool) -> charts.Spec:
    """AUROC with interval against a utility measure, one mark per run."""
    labels = list(dict.fromkeys(rows["label"]))
    scale = {"type": "log"} if log else {"zero": False}
    named = rows.assign(name=rows["label"].str.split(" · ", n=1).str[-1])
    base = alt.Chart(named[["label", "name", "utility", "utility_n", *tables.ESTIMATE]]).encode(
        x=alt.X(
            "utility:Q",
            title=title,
            scale=alt.Scale(padding=24, nice=False, **scale),
            axis=alt.Axis(tickCount=5, format="~s" if log else ".2~f"),
        ),
        color=charts.label_colour(labels, colours),
        tooltip=charts.tooltips(
            *(("label:N", "Run"), ("utility:Q", title, ".4~g")),
            ("utility_n:Q", "Records (utility)"),
        ),
    )
    bars = base.mark_rule(strokeWidth=2, opacity=0.75).encode(
        y=alt.Y("lower:Q", title="AUROC"), y2="upper:Q"
    )
    shapes = ["circle" if colours[label][1] == [1, 0] else "diamond" for label in labels]
    points = base.mark_point(size=90, opacity=1, strokeWidth=2.5).encode(
        y=alt.Y("value:Q", title="AUROC", scale=alt.Scale(zero=False, padding=16, nice=False)),
        shape=alt.Shape("label:N", scale=alt.Scale(domain=labels, range=shapes), legend=None),
    )
    names = base.mark_text(align="left", dx=8, dy=-7, fontSize=11.5).encode(
        y="value:Q", text="name:N"
    )
    layers = (charts.null_line(0.5, "y"), bars, points, names)
    return charts.chart_spec(alt.layer(*layers), height=300)
