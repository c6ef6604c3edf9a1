"""Which charts of membership and utility a study has rows for, and the legends they share."""

from studies.report import charts, forest, heat_maps
from studies.report.figures import comparison_rows, roc_rows, task_rows, utility_rows
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
        specs["attacks"] = forest.attack_chart(aurocs, blind[blind["value"].notna()])
        specs["heat"] = attack_heat(data, aurocs)
    specs |= _comparison_charts(data) | _roc_charts(data)
    if len(tasks):
        specs["tasks"] = heat_maps.task_map(tasks)
    return specs


def utility_charts(data: StudyData) -> dict[str, charts.Spec]:
    """Returns the charts of AUROC beside ROUGE-L and beside perplexity."""
    colours = charts.label_colours(data)
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
                chosen, colours, f"{title}, {records} records", log=measure == "perplexity"
            )
    return specs


def attack_values(data: StudyData) -> dict[str, object]:
    """Returns the attacks by name and the legends (label, colour, dashed) of attacks and runs."""
    attacks = list(dict.fromkeys(data.auroc_rows()["attack"]))
    runs = charts.label_colours(data).items()
    return {
        "attacks": attacks,
        "attack_entries": [(name, c, False) for name, c in charts.attack_colours(attacks).items()],
        "blind_entry": (ATTACK_NAMES[BLIND], charts.NEUTRAL, False),
        "run_entries": [(label, c, dash != [1, 0]) for label, (c, dash) in runs],
    }


def _comparison_charts(data: StudyData) -> dict[str, charts.Spec]:
    specs = {}
    for name, metric, title, null in (
        ("differences", "auroc_difference", "Difference of AUROC", 0.0),
        ("swaps", "swap_estimate", "Swap estimate of AUROC", 0.5),
    ):
        rows = comparison_rows(data, metric)
        if len(rows):
            specs[name] = forest.difference_chart(rows, title, null)
    return specs


def _roc_charts(data: StudyData) -> dict[str, charts.Spec]:
    rows = roc_rows(data)
    if not len(rows):
        return {}
    colours = charts.label_colours(data)
    return {
        "roc": charts.roc_chart(rows, colours, log=False),
        "roc_log": charts.roc_chart(rows, colours, log=True),
    }
