"""What the private records added: two models on the same records, in charts and a table."""

from collections.abc import Iterator

import pandas as pd

from studies.report import tables
from studies.report.forest import attack_entries, forest
from studies.report.labels import METRIC_NAMES
from studies.report.over_replicates import over_replicates
from studies.report.parts import Chart, Legend, Pair, Part, section
from studies.report.study_data import StudyData

__all__ = ["comparison_table", "inherited"]

_METRICS = ("auroc_difference", "swap_estimate", "auroc")
_DIFFERENCES = """\
AUROC of the first model minus that of the second, on the same records. A bar right of the dashed
line: the first gives more away."""
_SWAPS = """\
(A + 1 − B) / 2, with A and B the AUROC of the first and the second model. The two record sets
change roles between the models. A teacher learns the distribution of its side as well as its
records: what makes this a figure of the records alone are the fair coins that dealt the sides."""

# Chart -> metric, title of its axis, its value where nothing leaks, title, caption.
_CHARTS = {
    "differences": (_METRICS[0], "Difference of AUROC", 0.0, "Paired differences", _DIFFERENCES),
    "swaps": (_METRICS[1], "Swap estimate of AUROC", 0.5, "Swap estimates", _SWAPS),
}


@section("inherited", "What was added", "What the private records added")
def inherited(data: StudyData) -> Iterator[Part]:
    """Yields differences and swap estimates under every attack."""
    yield Legend("Attacks", attack_entries(data))
    drawn = []
    for name, (metric, axis, null, title, caption) in _CHARTS.items():
        rows = data.comparison_rows(metric)
        if len(rows):
            rows = over_replicates(data, rows, ["attack"])
            drawn.append(Chart(name, forest(rows, "pair", axis, null), caption, title))
    yield from (Pair(drawn), comparison_table(data))


def comparison_table(data: StudyData) -> tables.PageTable:
    """Returns every comparison of two models on the same records."""
    frame = pd.concat([data.comparison_rows(metric) for metric in _METRICS])
    shown = frame.drop(columns="pair")
    if data.replicated:
        shown = shown.assign(label_b=shown["run_b"].map(data.kinds))
    shown = over_replicates(data, shown, ["label_b", "attack", "metric"])
    columns = [
        *tables.words(data.notes, label="Model", label_b="Compared with"),
        *tables.words(attack="Attack", measure="Measure"),
        tables.estimate("Estimate"),
        *tables.counts(data.replicated),
    ]
    shown = shown.assign(measure=shown["metric"].map(METRIC_NAMES))
    named = ["label", "run", "label_b", "run_b", "name", "params", "metric"]
    caption = "Comparisons of two models on the same records"
    return tables.table("comparisons", caption, columns, shown, frame[[*named, *tables.ESTIMATE]])
