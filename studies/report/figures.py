"""The rows behind each figure, as plain numbers."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from audits.membership.roc import roc_points
from studies.compare.comparisons import AttackScores
from studies.report.study_data import StudyData

__all__ = [
    "comparison_rows",
    "headline_rows",
    "mean_roc",
    "roc_points",
    "roc_rows",
    "task_rows",
    "utility_rows",
]

_ROC_POINTS = 60


def thinned_roc(members: np.ndarray, nonmembers: np.ndarray) -> pd.DataFrame:
    """Returns about 120 points of the empirical ROC curve: `fpr` and `tpr` in [0, 1].

    Points are spread evenly in FPR and in its logarithm; the first and the last stay.

    Args:
        members: Scores [n], float64.
        nonmembers: Scores [m], float64.
    """
    fpr, tpr = roc_points(members, nonmembers)
    wanted = np.concatenate(
        [
            np.linspace(0, 1, _ROC_POINTS),
            np.geomspace(1 / len(nonmembers), 1, _ROC_POINTS),
        ]
    )
    # The last point at or below each wanted FPR is the highest TPR that this FPR allows.
    kept = np.unique(np.searchsorted(fpr, wanted, side="right") - 1)
    kept = np.union1d(kept, [0, len(fpr) - 1])
    return pd.DataFrame({"fpr": fpr[kept], "tpr": tpr[kept]})


def mean_roc(sides: Sequence[tuple[np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """Returns the mean of several ROC curves at the same FPRs (Fawcett 2006, vertical averaging).

    Args:
        sides: Scores of members [n] and of non-members [m] of each run, float64.
    """
    fewest = min(len(nonmembers) for _, nonmembers in sides)
    fpr = np.union1d(
        np.linspace(0, 1, _ROC_POINTS // 2), np.geomspace(1 / fewest, 1, _ROC_POINTS // 2)
    )
    curves = []
    for members, nonmembers in sides:
        own_fpr, own_tpr = roc_points(members, nonmembers)
        curves.append(own_tpr[np.searchsorted(own_fpr, fpr, side="right") - 1])
    return pd.DataFrame({"fpr": fpr, "tpr": np.mean(curves, axis=0)})


def roc_rows(data: StudyData) -> pd.DataFrame:
    """Returns ROC points of each kind of run and attack: label, attack, fpr, tpr and the counts.

    Of several replicates the curve is their mean, and the counts are the fewest of any.
    """
    names = data.results.drop_duplicates(["name", "params"]).set_index(["name", "params"])["attack"]
    repeats: dict[tuple[str, tuple[str, str]], list[AttackScores]] = {}
    for cell in data.cells:
        for key, scores in data.scores.get(cell.alias, {}).items():
            repeats.setdefault((data.kinds[cell.alias], key), []).append(scores)
    frames = []
    for (kind, key), runs in repeats.items():
        sides = [(one.members.to_numpy(), one.nonmembers.to_numpy()) for one in runs]
        points = thinned_roc(*sides[0]) if len(sides) == 1 else mean_roc(sides)
        frames.append(
            points.round(5).assign(
                label=kind,
                attack=names.get(key, key[0]),
                n_members=min(len(members) for members, _ in sides),
                n_nonmembers=min(len(nonmembers) for _, nonmembers in sides),
            )
        )
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def comparison_rows(data: StudyData, metric: str) -> pd.DataFrame:
    """Returns the rows of one comparison metric, with `pair`, the label of both runs."""
    rows = data.rows(metric=metric, task=None)
    rows = rows[rows["run_b"].notna()]
    return rows.assign(pair=rows["label"] + " − " + rows["label_b"].fillna(""))


def headline_rows(data: StudyData) -> pd.DataFrame:
    """Returns each run's AUROC under the primary attack."""
    return data.of_primary(data.auroc_rows()).drop_duplicates("run")


def utility_rows(data: StudyData) -> pd.DataFrame:
    """Returns one row per run and utility measure beside the primary attack's AUROC.

    Columns: label, role, measure, measured_on (population), utility, utility_lower, utility_upper,
    utility_n, and of the AUROC value, lower, upper, n_members, n_nonmembers.
    """
    utility = data.rows(audit="utility", task=None)
    utility = utility[utility["metric"].isin(("rouge_l_f1", "perplexity"))].drop_duplicates(
        ["run", "metric"]
    )
    utility = utility.assign(utility_n=utility["n_members"].fillna(utility["n_nonmembers"]))
    utility = utility[
        ["run", "metric", "population", "value", "lower", "upper", "utility_n"]
    ].rename(
        columns={
            "metric": "measure",
            "population": "measured_on",
            "value": "utility",
            "lower": "utility_lower",
            "upper": "utility_upper",
        }
    )
    return headline_rows(data).merge(utility, on="run")


def task_rows(data: StudyData) -> pd.DataFrame:
    """Returns the primary attack's AUROC per run and task."""
    rows = data.of_primary(
        data.rows(audit="membership", metric="auroc", population="private", block=None, run_b=None)
    )
    return rows[rows["task"].notna()].drop_duplicates(["run", "task"])
