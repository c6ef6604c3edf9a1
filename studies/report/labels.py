"""What the page calls attacks, metrics, roles and runs."""

from audits.membership.attacks import describe
from common.prose import prose
from studies.plan.cells import Plan

_NAMES = prose(__file__)
METRIC_NAMES: dict[str, str] = _NAMES["metrics"]
ROLE_NAMES: dict[str, str] = _NAMES["roles"]
SIGNAL_NAMES: dict[str, str] = _NAMES["signals"]
_SIZED = ("init", "control", "student", "counterfactual")
_BUILT_IN = ("teacher", "counterfactual_teacher", *_SIZED)


def attack_title(name: str) -> str | None:
    """Returns what the page calls an attack or a baseline; None for another name of a row."""
    attack = describe(name)
    title: str | None = _NAMES["baselines"].get(name) if attack is None else attack.title
    return title


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
