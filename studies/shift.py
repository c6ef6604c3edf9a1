"""Whether the texts alone tell private from held-out records, over all replicates of a study."""

import json
from collections.abc import Mapping

import pandas as pd

from callbacks.membership.blind import SplitsVerdict, judge_splits
from callbacks.statistics.clusters import critical_value
from studies.memorization import PRIVATE
from studies.plan import Cell

__all__ = ["shift_of_splits"]

_NAME = "blind"
_HALF_WIDTH = critical_value(0.05)


def _whole_aurocs(results: pd.DataFrame) -> pd.DataFrame:
    """Returns the AUROC of the text alone over each run's private records, every step."""
    rows = results[(results["audit"] == "membership") & (results["name"] == _NAME)]
    whole = rows["task"].isna() & rows["run_b"].isna() & (rows["population"] == PRIVATE)
    return rows[whole & (rows["metric"] == "auroc") & rows["value"].notna()]


def shift_of_splits(results: pd.DataFrame, cells: Mapping[str, Cell]) -> SplitsVerdict | None:
    """Judges the splits of all replicates together.

    One split of some hundreds of records says too little; every replicate deals its own.

    Args:
        results: A study's results.
        cells: The runs to go by, by name.

    Returns:
        The verdict; None where fewer than two splits were judged, or by other options.
    """
    rows = _whole_aurocs(results)
    rows = rows[rows["run"].isin(list(cells))]
    splits = rows.assign(replicate=[cells[run].replicate for run in rows["run"]])
    # All runs of a replicate are audited on the same records, and say the same.
    splits = splits.drop_duplicates("replicate").drop_duplicates(["value", "lower", "upper"])
    if len(splits) < 2 or splits["params"].nunique() > 1:
        return None
    errors = (splits["upper"] - splits["lower"]) / (2 * _HALF_WIDTH)
    margin = float(json.loads(splits["params"].iloc[0])["margin"])
    return judge_splits(splits["value"].to_numpy(float), errors.to_numpy(float), margin)
