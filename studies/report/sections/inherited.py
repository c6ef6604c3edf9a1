"""What the private records added: two models on the same records, in charts and a table."""

from collections.abc import Iterator

import pandas as pd

from common.prose import prose
from studies.report import tables
from studies.report.forest import attack_entries, forest
from studies.report.labels import metric_title
from studies.report.over_replicates import over_replicates
from studies.report.parts import Chart, Legend, Pair, Part, section
from studies.report.study_data import StudyData

_METRICS = ("auroc_difference", "swap_estimate", "auroc")
_SAYS = prose(__file__)

# Chart -> metric, its value where nothing leaks.
_CHARTS = {"differences": (_METRICS[0], 0.0), "swaps": (_METRICS[1], 0.5)}


@section("inherited", "What the private records added")
def inherited(data: StudyData) -> Iterator[Part]:
    """Yields differences and swap estimates under every attack."""
    yield Legend("Attacks", attack_entries(data.auroc_rows()["attack"]))
    drawn = []
    for name, (metric, null) in _CHARTS.items():
        rows = data.comparison_rows(metric)
        if len(rows):
            said, rows = _SAYS[name], over_replicates(data, rows, ["attack"])
            spec = forest(rows, "pair", said["axis"], null)
            drawn.append(Chart(name, spec, said["caption"], said["title"]))
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
    shown = shown.assign(measure=shown["metric"].map(metric_title))
    named = ["label", "run", "label_b", "run_b", "name", "params", "metric"]
    caption = "Comparisons of two models on the same records"
    return tables.table("comparisons", caption, columns, shown, frame[[*named, *tables.ESTIMATE]])
