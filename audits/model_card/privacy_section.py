"""The privacy and memorization sections of a model card: what its audits found, and a verdict."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from audits.membership.epsilon_rows import BOUND_PARAMS, READS_THE_COINS
from audits.memorization.rows import NEVER_MISSING, NEVER_MISSING_TEXT
from audits.model_card.markdown import Row, figure_text, options_text, table
from audits.scoring.shift_test import DEALT_BY_COINS
from audits.statistics.verdict import (
    RULES,
    TAIL_METRIC,
    Verdict,
    admitted,
    auroc_verdict,
    gap_verdict,
)

_BLIND = "blind"
_OPPOSED = "held_out"
_TEXTS = {True: "yes", False: "no", None: "not settled"}
ATTACK_COLUMNS = (
    "Attack",
    "Compared",
    "AUROC [95% interval]",
    "TPR at 1% FPR [95% interval]",
    "Members",
    "Non-members",
    "Text alone tells them apart",
    "Verdict",
)
GAP_COLUMNS = (
    "Measure",
    "Compared",
    "Difference [95% interval]",
    "Members",
    "Non-members",
    "Text alone tells them apart",
    "Verdict",
)
# One line each: rates by n and p follow from the probability of one sample, similarities repeat
# the rate of near matches.
_GAPS = (
    "token_accuracy_gap",
    "extraction_strength_gap",
    "exact_match_rate_gap",
    "extraction_probability_gap",
    "near_match_rate_gap",
)
_EPSILON = "epsilon_lower"
_EPSILON_COLUMNS = ("Attack", "Population", "Epsilon at least", "Delta", "Unit", "Coins")
_OF_TWO_MODELS = Verdict(
    "undecided", "a reference of this attack met one side alone, so that it tells of two models"
)
Rule = Callable[[float, float, bool | None], Verdict]
_CLAIM = (
    "AUROC is the chance that a random member scores above a random non-member: 0.5 is no "
    "leak, 1 is complete. It is what these attacks recovered, a lower bound on what is there. "
    "**Intervals and verdicts hold for these weights**: they say nothing of other weights that the "
    "same technique would give. Where fair coins dealt the sides, what the text alone tells is the "
    "luck of the coins and caps no verdict. Elsewhere nothing else shows that the sides are alike: "
    "where the text tells them apart, a row is no evidence of membership."
)
_EPSILON_CLAIM = (
    "As each unit was put in or left out by a fair coin, an attack's guesses bound the epsilon of "
    "the whole training, teacher included, from below; all attacks of the audit share an error of "
    "5%, so that the largest bound holds with 95% confidence (Steinke, Nasr and Jagielski 2023). 0 "
    "says that nothing is shown."
)
_GAP_CLAIM = (
    "What the model writes by itself, of members and of held-out records that it never met: short "
    "or formulaic answers come from any model, so only the difference speaks. Chance is 0."
)


def privacy_section(rows: Sequence[Row]) -> str:
    """Returns the membership attacks with intervals and verdicts, and the rules of the verdicts.

    Args:
        rows: The membership audit's at its last step, all tasks and blocks together.
    """
    lines = attack_lines(rows)
    if not lines:
        return "No membership audit was run on these weights: nothing is known about their leakage."
    return f"{table(ATTACK_COLUMNS, lines)}\n\n{_CLAIM}\n\n{RULES}{_epsilon(rows)}"


def attack_lines(rows: Sequence[Row]) -> list[tuple[object, ...]]:
    """Returns one line of `ATTACK_COLUMNS` for every attack and population.

    Args:
        rows: The membership audit's at its last step, all tasks and blocks together.
    """
    groups: dict[tuple[str, str], dict[str, Row]] = {}
    coins = _dealt_by_coins(rows)
    for row in rows:
        if row["name"] != _BLIND:
            attack = f"{row['name']}{options_text(row)}"
            compared = f"{row['population']} against non-members"
            groups.setdefault((attack, compared), {})[str(row["metric"])] = row
    measured = [(key, metrics) for key, metrics in groups.items() if "auroc" in metrics]
    return [
        (
            *key,
            figure_text(metrics["auroc"]),
            figure_text(metrics["tpr_at_fpr_0.01"])
            if "tpr_at_fpr_0.01" in metrics
            else "not measured",
            metrics["auroc"].get("n_members"),
            metrics["auroc"].get("n_nonmembers"),
            *_judged(metrics["auroc"], _auroc_rule(metrics), coins),
        )
        for key, metrics in measured
    ]


def _epsilon(rows: Sequence[Row]) -> str:
    """Returns the one-run bounds on epsilon; nothing where no coins make one valid."""
    lines = []
    for row in rows:
        if row["metric"] == _EPSILON and row.get("lower") is not None:
            options = json.loads(str(row["params"])) if row.get("params") else {}
            lines.append(
                (
                    f"{row['name']}{options_text(row, BOUND_PARAMS)}",
                    row["population"],
                    f"{float(str(row['lower'])):.3f}",
                    f"{float(options.get('delta', 0.0)):.3g}",
                    options.get("unit", "cluster of near-duplicates"),
                    sum(int(str(row.get(side) or 0)) for side in ("n_members", "n_nonmembers")),
                )
            )
    return f"\n\n{_EPSILON_CLAIM}\n\n{table(_EPSILON_COLUMNS, lines)}" if lines else ""


def memorization_section(rows: Sequence[Row], membership: Sequence[Row]) -> str:
    """Returns what the model writes of members beyond held-out records, by measure.

    Args:
        rows: The memorization audit's at its last step, all tasks together.
        membership: The membership audit's: whether the texts of the same records are shifted.
    """
    if not rows:
        return "No memorization audit was run on these weights."
    lines = gap_lines(rows, membership)
    if not lines:
        return "No figure of what these weights write has held-out records beside it."
    missing = any(row["metric"] == NEVER_MISSING for row in rows)
    alone = f"\n\nHere {NEVER_MISSING_TEXT}." if missing else ""
    return f"{_GAP_CLAIM}\n\n{table(GAP_COLUMNS, lines)}{alone}"


def gap_lines(rows: Sequence[Row], membership: Sequence[Row]) -> list[tuple[object, ...]]:
    """Returns one line of `GAP_COLUMNS` for every measure beside held-out records.

    Args:
        rows: The memorization audit's at its last step, all tasks together.
        membership: The membership audit's: whether the texts of the same records are shifted.
    """
    shifted = {row["population"]: row.get("shifted") for row in membership}
    coins = _dealt_by_coins([*rows, *membership])
    lines: list[tuple[object, ...]] = []
    for row in rows:
        options = json.loads(str(row["params"]))
        # A gap within a length class has few records; one against `never` has no shift test.
        if (
            row["metric"] in _GAPS
            and options.get("against") == _OPPOSED
            and "length" not in options
        ):
            measure = f"{str(row['metric']).removesuffix('_gap')}{options_text(row, ('against',))}"
            lines.append(
                (
                    measure,
                    f"{row['population']} minus {_OPPOSED}",
                    figure_text(row),
                    row.get("n_members"),
                    row.get("n_nonmembers"),
                    *_judged(
                        {**row, "shifted": shifted.get(row["population"])}, gap_verdict, coins
                    ),
                )
            )
    return lines


def _dealt_by_coins(rows: Sequence[Row]) -> set[object]:
    """Returns the populations that fair coins dealt, as the audits' own rows say."""
    return {
        row["population"]
        for row in rows
        if row["metric"] == DEALT_BY_COINS and row.get("value") == 1.0
    }


def _auroc_rule(metrics: Mapping[str, Row]) -> Rule:
    """Returns the rule of an attack's AUROC beside its certified TPR, if it has one."""
    if READS_THE_COINS in metrics:
        return lambda *_: _OF_TWO_MODELS
    tail = metrics.get(TAIL_METRIC, {})
    lower, upper = _number(tail.get("lower")), _number(tail.get("upper"))
    return partial(auroc_verdict, tpr_upper=upper, tpr_lower=lower)


def _number(value: object) -> float | None:
    return None if value is None else float(str(value))


def _judged(row: Row, rule: Rule, coins: set[object]) -> tuple[str, str]:
    """Returns what is known of the texts and of the sides, and the verdict."""
    shifted = None if row.get("shifted") is None else bool(row["shifted"])
    dealt = row["population"] in coins
    texts = _TEXTS[shifted] + ("; coins dealt the sides" if dealt else "")
    lower, upper = _number(row.get("lower")), _number(row.get("upper"))
    if lower is None or upper is None:
        return texts, "undecided: no interval"
    return texts, str(rule(lower, upper, admitted(shifted, dealt)))
