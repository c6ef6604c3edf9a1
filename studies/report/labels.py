"""What the page calls metrics, roles and runs."""

from studies.plan.cells import Plan

__all__ = ["METRIC_NAMES", "ROLE_NAMES", "run_labels"]

METRIC_NAMES = {
    "auroc": "AUROC",
    "tpr_at_fpr_0.1": "TPR at 10% FPR",
    "tpr_at_fpr_0.01": "TPR at 1% FPR",
    "tpr_at_fpr_0.001": "TPR at 0.1% FPR",
    "balanced_accuracy": "Balanced accuracy",
    "max_t": "Max-T over attacks",
    "rouge_l_f1": "ROUGE-L F1",
    "perplexity": "Perplexity",
    "auroc_difference": "AUROC difference",
    "swap_estimate": "Swap estimate",
    "auroc_at_equal_lengths": "AUROC at equal lengths",
    "swap_estimate_at_equal_lengths": "Swap estimate at equal lengths",
    "token_accuracy_gap_at_equal_lengths": "Gap in token accuracy at equal lengths",
    "token_accuracy_gap_excess_at_equal_lengths": "Excess of the gap at equal lengths",
}
ROLE_NAMES = {
    "base": "Base",
    "teacher": "Teacher",
    "counterfactual_teacher": "Counterfactual teacher",
    "init": "Initial student",
    "control": "Control",
    "student": "Student",
    "counterfactual": "Counterfactual student",
    "reference": "Reference",
}
_SIZED = ("init", "control", "student", "counterfactual")
_BUILT_IN = ("teacher", "counterfactual_teacher", *_SIZED)


def run_labels(plan: Plan, *, repeats: bool = True, plain: bool = False) -> dict[str, str]:
    """Returns what the page calls each run, by alias.

    Args:
        plan: The study's plan.
        repeats: Whether replicate, repeat and seed are told apart, where there are several.
        plain: Whether role and technique are all that is said.
    """
    several = {
        name: len({getattr(cell, name) for cell in plan.cells if cell.role != "teacher"}) > 1
        for name in ("family", "replicate", "repeat")
    }
    several["size"] = len({cell.size for cell in plan.cells if cell.stage in _SIZED}) > 1
    several["seed"] = len({cell.student_seed for cell in plan.cells if cell.stage in _SIZED}) > 1
    labels = {}
    for cell in plan.cells:
        name = ROLE_NAMES[cell.role] if cell.stage in _BUILT_IN else cell.stage
        sized = cell.stage in _SIZED
        parts = [
            name,
            cell.technique,
            cell.size if several["size"] and sized else None,
            cell.family if several["family"] and not sized else None,
            f"r{cell.replicate}" if several["replicate"] and repeats else None,
            f"repeat {cell.repeat}" if several["repeat"] and repeats else None,
            f"s{cell.student_seed}" if several["seed"] and sized and repeats else None,
        ]
        parts = parts[:2] if plain else parts
        labels[cell.alias] = " · ".join(part for part in parts if part)
    return labels
