"""One figure of several runs: the mean over replicates, or a single run's own."""

import numpy as np
import pandas as pd

from callbacks.statistics import replicate_mean

__all__ = ["FIGURE", "figure_of"]

FIGURE = ["value", "lower", "upper", "n_members", "n_nonmembers", "replicates"]


def figure_of(rows: pd.DataFrame) -> dict[str, object]:
    """Returns value, interval and counts of rows that stand for the same thing.

    A single run has its interval over records. Several have Student's t over replicates, those of
    one replicate averaged first; `n_members` and `n_nonmembers` are then the fewest of any. Runs of
    a single replicate have no interval.

    Args:
        rows: `value`, `lower`, `upper`, `n_members`, `n_nonmembers`, `replicate`; one at least.
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
    mean = replicate_mean(means)
    alone = mean.n_replicates == 1
    return figure | {
        "value": mean.value,
        "lower": np.nan if alone else mean.lower,
        "upper": np.nan if alone else mean.upper,
        "replicates": mean.n_replicates,
    }
