"""What is known of a study's record sets: who dealt them, and what their texts alone tell."""

import json
from collections.abc import Collection, Mapping

import pandas as pd

from audits.scoring.blind_baseline import SplitsVerdict, judge_splits
from audits.scoring.shift_test import DEALT_BY_COINS
from audits.statistics.clusters import critical_value
from studies.compare.memorization import PRIVATE
from studies.plan.cells import Cell

_NAME = "blind"
_HALF_WIDTH = critical_value(0.05)


def dealt_by_coins(results: pd.DataFrame, runs: Collection[str]) -> bool:
    """Returns whether fair coins dealt private and held-out records, as the runs' audits say.

    Args:
        results: A study's results.
        runs: Names of runs; False where one of them does not say, or where there is none.
    """
    sides = dealt_sides(results)
    return len(runs) > 0 and all((run, PRIVATE) in sides for run in runs)


def dealt_sides(results: pd.DataFrame) -> set[tuple[str, str]]:
    """Returns run and population wherever audits say that fair coins dealt it and its non-members.

    Args:
        results: A study's results.
    """
    rows = results[results["metric"] == DEALT_BY_COINS]
    said = rows.groupby(["run", "population"])["value"].min()
    return {(str(run), str(population)) for run, population in said.index[said.eq(1.0)]}


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
