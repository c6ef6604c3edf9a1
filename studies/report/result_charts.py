"""Which charts of membership and utility a study has rows for, and the legends they share."""

import pandas as pd

from studies.report import charts, forest, heat_maps
from studies.report.figures import comparison_rows, roc_rows, task_rows, utility_rows
from studies.report.over_replicates import over_replicates
from studies.report.sizes import attack_heat
from studies.report.study_data import ATTACK_NAMES, BLIND, StudyData

__all__ = ["attack_values", "membership_charts", "utility_charts"]


def membership_charts(data: StudyData) -> dict[str, charts.Spec]:
    """Returns the charts of attacks: per run, compared, as a heat map, as ROC curves, by task."""
    aurocs = data.auroc_rows()
    aurocs = aurocs[aurocs["value"].notna()]
    tasks = task_rows(data)
    tasks = tasks[tasks["value"].notna()]
    specs: dict[str, charts.Spec] = {}
    if len(aurocs):
        blind = data.blind_rows()
        blind = over_replicates(data, blind[blind["value"].notna()], ["attack"])
        specs["attacks"] = forest.attack_chart(over_replicates(data, aurocs, ["attack"]), blind)
        specs["heat"] = attack_heat(data, aurocs)
    specs |= _comparison_charts(data) | _roc_charts(data)
    if len(tasks):
        specs["tasks"] = heat_maps.task_map(over_replicates(data, tasks, ["task"]))
    return specs


def utility_charts(data: StudyData) -> dict[str, charts.Spec]:
    """Returns the charts of AUROC beside ROUGE-L and beside perplexity."""
    colours = charts.label_colours(data, data.kinds)
    rows = utility_rows(data)
    specs = {}
    for name, measure, title in (
        ("rouge", "rouge_l_f1", "ROUGE-L F1"),
        ("perplexity", "perplexity", "Perplexity (log scale)"),
    ):
        chosen = rows[(rows["measure"] == measure) & rows["utility"].notna()]
        if len(chosen):
            records = " and ".join(sorted(set(chosen["measured_on"])))
            specs[name] = charts.utility_chart(
                _mean_utility(data, chosen),
                colours,
                f"{title}, {records} records",
                log=measure == "perplexity",
            )
    return specs


def attack_values(data: StudyData) -> dict[str, object]:
    """Returns the attacks by name and the legends (label, colour, dashed) of attacks and runs."""
    attacks = list(dict.fromkeys(data.auroc_rows()["attack"]))
    runs = charts.label_colours(data, data.kinds).items()
    return {
        "attacks": attacks,
        "attack_entries": [(name, c, False) for name, c in charts.attack_colours(attacks).items()],
        "blind_entry": (ATTACK_NAMES[BLIND], charts.NEUTRAL, False),
        "run_entries": [(label, c, dash != [1, 0]) for label, (c, dash) in runs],
    }


def _mean_utility(data: StudyData, rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with means over replicates, of utility too, where there are several.

    Seeds are averaged within their replicate first, as those of the AUROC are.
    """
    means = over_replicates(data, rows)
    if not data.replicated:
        return means
    own = rows.assign(metric=rows["measure"], value=rows["utility"], n_members=rows["utility_n"])
    columns = {"value": "utility", "n_members": "utility_n"}
    utility = over_replicates(data, own)[["label", *columns]].rename(columns=columns)
    return means.merge(utility, on="label")


def _comparison_charts(data: StudyData) -> dict[str, charts.Spec]:
    specs = {}
    for name, metric, title, null in (
        ("differences", "auroc_difference", "Difference of AUROC", 0.0),
        ("swaps", "swap_estimate", "Swap estimate of AUROC", 0.5),
    ):
        rows = comparison_rows(data, metric)
        if len(rows):
            rows = over_replicates(data, rows, ["attack"])
            specs[name] = forest.difference_chart(rows, title, null)
    return specs


def _roc_charts(data: StudyData) -> dict[str, charts.Spec]:
    rows = roc_rows(data)
    if not len(rows):
        return {}
    colours = charts.label_colours(data, data.kinds)
    return {
        "roc": charts.roc_chart(rows, colours, log=False),
        "roc_log": charts.roc_chart(rows, colours, log=True),
    }
