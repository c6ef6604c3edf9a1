"""How sure the answer is: what its intervals are over, and the largest of several estimates.

The student that most came through to is picked among several, with an interval that pays for it.
The largest of several estimates lies above its own truth on average, and its own interval misses
that too often: in a tenth of the studies, with six equal techniques and five replicates. So the
intervals of all of them hold at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from audits.statistics import replicate_mean
from audits.statistics.simultaneous import bonferroni_level, simultaneous_level
from common.prose import prose
from common.wording import estimate_text
from studies.claims.records import membership_sample
from studies.compare.comparisons import swap_of_runs
from studies.report.parts import Part, Text, section
from studies.report.study_data import StudyData

_SAYS = prose(__file__)


@section("sure", "What the intervals are over", always=True)
def sure(data: StudyData) -> Iterator[Part]:
    """Yields what the intervals are over, and the largest swap estimate with one that pays."""
    several = data.replicated and data.n_replicates > 1
    yield Text(_SAYS["several"].format(n=data.n_replicates) if several else _SAYS["one"])
    if said := worst_sentence(data):
        yield Text(said)


def worst_sentence(data: StudyData) -> str:
    """Returns which student gives most away, and how it was picked; empty where none can be."""
    worst = worst_swap(data)
    if worst is None:
        return ""
    figure = estimate_text(worst.value, worst.lower, worst.upper)
    said: str = _SAYS["worst"].format(label=worst.label, attack=data.primary_name, figure=figure)
    if worst.among > 1:
        picked = "picked" if np.isnan(worst.lower) else "simultaneous"
        said += _SAYS[picked].format(among=worst.among)
    return said


@dataclass(frozen=True)
class WorstSwap:
    """The largest swap estimate of a study's students.

    Attributes:
        label: What the student is called, replicates and seeds aside.
        value: Its swap estimate, the mean over replicates.
        lower: Lower end of the simultaneous 95% interval; NaN where there is none.
        upper: Its upper end.
        among: Number of students that it was picked among.
    """

    label: str
    value: float
    lower: float
    upper: float
    among: int


def worst_swap(data: StudyData) -> WorstSwap | None:
    """Returns the largest swap estimate under the primary attack; None where there is none.

    Over replicates Student's t at Bonferroni's level, over the records of one set of weights the
    row's own interval at the level of max-T, whose correlation the records tell.
    """
    rows = data.comparison_rows("swap_estimate")
    rows = data.of_primary(rows[rows["role"] == "student"]).dropna(subset="value")
    if not len(rows):
        return None
    replicates = {cell.alias: cell.replicate for cell in data.cells}
    rows = rows.assign(
        kind=rows["run"].map(data.kinds), replicate=[replicates[run] for run in rows["run"]]
    )
    means = rows.groupby(["kind", "replicate"], sort=False)["value"].mean()
    by_kind = means.groupby(level="kind", sort=False).mean()
    kind, among = str(by_kind.idxmax()), len(by_kind)
    picked = rows[rows["kind"] == kind]
    if len(picked) == 1:
        ends = _over_records(data, rows, picked.iloc[0])
    else:
        mean = replicate_mean(means[kind], bonferroni_level(among))
        ends = (mean.lower, mean.upper) if mean.has_interval else (np.nan, np.nan)
    lower, upper = np.clip(ends, 0.0, 1.0)
    return WorstSwap(kind, float(by_kind.max()), float(lower), float(upper), among)


def _over_records(data: StudyData, rows: pd.DataFrame, worst: pd.Series) -> tuple[float, float]:
    """Returns the ends of the interval of the worst row, at the level that all of them share."""
    if len(rows) == 1:
        return worst["lower"], worst["upper"]
    cells = {cell.alias: cell for cell in data.cells}
    pairs = {
        str(row["run"]): [(cells[str(row["run"])], cells[str(row["run_b"])])]
        for _, row in rows.iterrows()
    }
    sample = membership_sample(data.figures, pairs, data.scores)
    level = bonferroni_level(len(rows))
    if sample is not None:
        deviations = np.sqrt(np.diag(sample[0].covariance))
        with np.errstate(invalid="ignore", divide="ignore"):
            level = simultaneous_level(sample[0].covariance / np.outer(deviations, deviations))
    ours, theirs = pairs[str(worst["run"])][0]
    swap = swap_of_runs(ours, theirs, data.scores, data.primary, level)
    return (np.nan, np.nan) if swap is None else (swap.lower, swap.upper)
