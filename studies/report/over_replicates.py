"""One figure of several runs: the mean over replicates, or a single run's own."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from audits.statistics import replicate_mean
from studies.report.study_data import StudyData

FIGURE = ["value", "lower", "upper", "n_members", "n_nonmembers", "replicates"]
# Metrics that lie in [0, 1], whatever Student's t says of them.
_SHARES = (
    *("auroc", "auroc_at_equal_lengths", "swap_estimate", "swap_estimate_at_equal_lengths"),
    *("tpr_at_fpr_0.1", "tpr_at_fpr_0.01"),
    *("span_probability", "span_extraction_rate", "span_preferred", "span_answered"),
    *("near_verbatim_rate", "span_in_answer"),
    *("rouge_l_f1", "token_accuracy", "top_overlap", "top_overlap_chance"),
    *("top_overlap_ceiling_membership", "top_overlap_ceiling_memorization", "transfer_overlap"),
)
# The same of differences of two such numbers, which lie in [-1, 1].
_DIFFERENCES = (
    *("auroc_difference", "did", "token_accuracy_excess", "extraction_strength_excess"),
    *("exact_match_rate_excess", "similarity_excess", "extraction_probability_excess"),
    *("token_accuracy_gap", "transfer_overlap_gap"),
)
# Bounds that hold with 95% each: a mean of them is none.
_LOWER_BOUNDS = ("epsilon_lower", "mu_lower")


def figure_of(rows: pd.DataFrame) -> dict[str, object]:
    """Returns value, interval and counts of rows that stand for the same thing.

    A single run has its interval over records. Several have Student's t over replicates, those of
    one replicate averaged first; `n_members` and `n_nonmembers` are then the fewest of any. Runs of
    a single replicate have no interval, nor have replicates that all agree. The interval of a share
    ends at 0 and 1, that of a difference of shares at -1 and 1.

    Args:
        rows: `value`, `lower`, `upper`, `n_members`, `n_nonmembers`, `replicate`, one at least;
            `metric` tells whether it is a share.
    """
    figure: dict[str, object] = {
        "replicates": rows["replicate"].nunique(),
        **{name: rows[name].min() for name in ("n_members", "n_nonmembers")},
    }
    if len(rows) == 1:
        return figure | {name: rows[name].iloc[0] for name in ("value", "lower", "upper")}
    means = rows.dropna(subset="value").groupby("replicate")["value"].mean()
    if not len(means):
        return figure | dict.fromkeys(("value", "lower", "upper"), np.nan)
    if "metric" in rows and rows["metric"].isin(_LOWER_BOUNDS).all():
        return figure | {"value": means.min(), "lower": np.nan, "upper": np.nan}
    mean = replicate_mean(means)
    ends = np.array([mean.lower, mean.upper] if mean.has_interval else [np.nan, np.nan])
    for metrics, least in ((_SHARES, 0.0), (_DIFFERENCES, -1.0)):
        if "metric" in rows and rows["metric"].isin(metrics).all():
            ends = ends.clip(least, 1.0)
    return figure | {
        "value": mean.value,
        "lower": ends[0],
        "upper": ends[1],
        "replicates": mean.n_replicates,
    }


def figures_by(rows: pd.DataFrame, key: Sequence[str]) -> pd.DataFrame:
    """Returns a row per key in the order of their first rows: the key, and `figure_of` its rows.

    Args:
        rows: What `figure_of` takes.
        key: Columns; a null is a value of its own.
    """
    return pd.DataFrame(
        [
            dict(zip(key, values, strict=True)) | dict(figure_of(own))
            for values, own in rows.groupby(list(key), sort=False, dropna=False)
        ],
        columns=[*key, *FIGURE],
    )


def wide_figures(frame: pd.DataFrame, key: Sequence[str]) -> pd.DataFrame:
    """Returns a row per key with the estimate of every measure, and the counts of the first.

    Args:
        frame: `measure`, the key, and what `figure_of` returns.
        key: Columns.

    Returns:
        The first row of each key with `MEASURE_value`, `MEASURE_lower`, `MEASURE_upper`, and
        `MEASURE_known`, null where a key has no row of the measure.
    """
    wide = frame.drop_duplicates(key)
    for measure, rows in frame.groupby("measure", sort=False):
        ends = {name: f"{measure}_{name}" for name in ("value", "lower", "upper")}
        own = rows[[*key, *ends]].rename(columns=ends).assign(**{f"{measure}_known": "yes"})
        wide = wide.merge(own, on=list(key), how="left")
    return wide


def over_replicates(data: StudyData, rows: pd.DataFrame, key: Sequence[str] = ()) -> pd.DataFrame:
    """Returns rows of runs as rows of what the runs repeat, where a study repeats anything.

    Args:
        data: The study.
        rows: `run` and `figure_of`'s columns; with `pair` they compare runs to those of `run_b`.
        key: Further columns that tell rows apart.

    Returns:
        The rows themselves where nothing is repeated; else a row per kind of run (`label`, or
        `pair` of two kinds) and key.
    """
    if not data.replicated:
        return rows.assign(replicates=1)
    replicates = {cell.alias: cell.replicate for cell in data.cells}
    kinds = rows.assign(label=rows["run"].map(data.kinds), replicate=rows["run"].map(replicates))
    if "pair" not in rows:
        return figures_by(kinds, ["label", *key])
    others = rows["run_b"].map(data.kinds)
    return figures_by(kinds.assign(pair=kinds["label"] + " − " + others), ["pair", *key])
