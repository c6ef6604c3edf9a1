"""What the page calls attacks, metrics, roles and runs."""

import json
import re

import pandas as pd

from audits.membership.attacks import describe
from audits.membership.ceiling_rows import CEILING_PARAMS
from audits.membership.epsilon_rows import BOUND_PARAMS
from common.prose import prose
from studies.plan.cells import Plan

_NAMES = prose(__file__)
_METRIC_NAMES: dict[str, str] = _NAMES["metrics"]
ROLE_NAMES: dict[str, str] = _NAMES["roles"]
SIGNAL_NAMES: dict[str, str] = _NAMES["signals"]
_SIZED = ("init", "control", "student", "counterfactual")
_BUILT_IN = ("teacher", "counterfactual_teacher", *_SIZED)
_RATES = {"tpr_at_fpr_": "TPR", "epsilon_equivalent_at_fpr_": "Equivalent ε"}
_GAP, _UNDER = "_gap", "Counterfactual "
# A name of the code that is no part of a path, of a run's name or of a longer name.
_ID = re.compile(r"(?<![\w./-])[a-z]\w*_[\w.]*\w(?![\w/-])")
_OPTION = re.compile(r"\b([a-z][a-z_]*)=(?=[\w.])")


def attack_title(name: str) -> str | None:
    """Returns what the page calls an attack or a baseline; None for another name of a row."""
    attack = describe(name)
    title: str | None = _NAMES["baselines"].get(name) if attack is None else attack.title
    return title


def metric_title(metric: str) -> str:
    """Returns what the page calls a metric.

    >>> metric_title("tpr_at_fpr_0.01"), metric_title("extraction_strength_gap")
    ('TPR at 1% FPR', 'Gap in extraction strength')
    """
    if metric in _METRIC_NAMES:
        return _METRIC_NAMES[metric]
    for start, title in _RATES.items():
        if metric.startswith(start):
            return f"{title} at {100 * float(metric.removeprefix(start)):g}% FPR"
    if metric.endswith(_GAP):
        return f"Gap in {within_sentence(metric_title(metric.removesuffix(_GAP)))}"
    return metric.replace("_", " ").capitalize()


def within_sentence(title: str) -> str:
    """Returns a title as it stands within a sentence.

    >>> within_sentence("Token accuracy"), within_sentence("TPR at 1% FPR")
    ('token accuracy', 'TPR at 1% FPR')
    """
    return title if title[1:2].isupper() else title[:1].lower() + title[1:]


def plain(text: str) -> str:
    """Returns a text in which attacks, metrics and options go by their names among readers.

    >>> plain("too few records to measure tpr_at_fpr_0.001 of min_k (k=0.2); see runs/my_model")
    'too few records to measure TPR at 0.1% FPR of Min-K% (k 0.2); see runs/my_model'
    """
    named = _ID.sub(lambda found: _title(found[0]), text)
    return _OPTION.sub(lambda found: f"{found[1].replace('_', ' ')} ", named)


def _title(name: str) -> str:
    """Returns the title of a name of the code; a name that is none of the code's as it is."""
    known = attack_title(name) or SIGNAL_NAMES.get(name)
    is_metric = name in _METRIC_NAMES or name.startswith(tuple(_RATES)) or name.endswith(_GAP)
    return known or (metric_title(name) if is_metric else name)


def owner(label: str) -> str | None:
    """Returns the label of the run that a counterfactual one stands under, None of other runs.

    >>> owner("Counterfactual student · kd"), owner("Control")
    ('Student · kd', None)
    """
    if not label.startswith(_UNDER):
        return None
    own = label.removeprefix(_UNDER)
    return own[:1].upper() + own[1:]


def attack_labels(results: pd.DataFrame) -> pd.Series:
    """Returns each row's attack, with its parameters where one attack was run with several."""
    titles = results["name"].map(lambda name: attack_title(name) or name)
    detailed = results["params"].map(_own_params)
    variants = detailed.groupby(results["name"]).transform("nunique")
    return titles.where((variants == 1) | (detailed == ""), titles + " (" + detailed + ")")


def _own_params(text: str) -> str:
    """Returns an attack's parameters in words, without those that only a bound has."""
    own = json.loads(text)
    for params in (BOUND_PARAMS, CEILING_PARAMS):
        if params[0] in own:
            own = {key: one for key, one in own.items() if key not in params}
    return ", ".join(f"{key} {value}" for key, value in own.items())


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
            cell.technique or cell.defence,
            cell.size if several["size"] and sized else None,
            cell.family if several["family"] and not sized else None,
            f"r{cell.replicate}" if several["replicate"] and repeats else None,
            f"repeat {cell.repeat}" if several["repeat"] and repeats else None,
            f"s{cell.student_seed}" if several["seed"] and sized and repeats else None,
        ]
        parts = parts[:2] if plain else parts
        labels[cell.alias] = " · ".join(part for part in parts if part)
    return labels
