"""Verdicts on the rows of an audit: attacks and memorization gaps of one model at one step."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from audits.membership.epsilon_rows import READS_THE_COINS
from audits.scoring.shift_test import DEALT_BY_COINS
from audits.statistics.verdict import TAIL_METRIC, Verdict, admitted, auroc_verdict, gap_verdict

Row = Mapping[str, object]
BLIND = "blind"
"""Not an attack: it has never seen the model."""

OPPOSED = "held_out"
"""The population that members are set against."""

GAPS = (
    "token_accuracy_gap",
    "extraction_strength_gap",
    "exact_match_rate_gap",
    "extraction_probability_gap",
    "near_match_rate_gap",
)
"""Gaps with a verdict: rates by n and p follow from the probability of one sample, similarities
repeat the rate of near matches."""

_TEXTS = {True: "yes", False: "no", None: "not settled"}
_OF_TWO_MODELS = Verdict(
    "undecided", "a reference of this attack met one side alone, so that it tells of two models"
)
_Rule = Callable[[float, float, bool | None], Verdict]


@dataclass(frozen=True, slots=True)
class Judged:
    """A figure with its verdict.

    Attributes:
        metrics: The rows of an attack by metric; of a gap, its own row alone.
        row: The row that the verdict rests on.
        texts: Whether the texts alone tell the sides apart, and whether coins dealt them.
        verdict: The word and its reason.
    """

    metrics: Mapping[str, Row]
    row: Row
    texts: str
    verdict: Verdict


def params_of(row: Row) -> dict[str, object]:
    """Returns the options of a row, which tables hold as JSON."""
    params = row.get("params")
    options = json.loads(params) if isinstance(params, str) else params
    return dict(options) if isinstance(options, Mapping) else {}


def options_text(row: Row, hidden: Sequence[str] = ()) -> str:
    """Returns a row's options as " (k=0.2)", those that are hidden left out."""
    shown = [f"{key}={value}" for key, value in params_of(row).items() if key not in hidden]
    return f" ({', '.join(shown)})" if shown else ""


def judged_attacks(rows: Sequence[Row]) -> list[Judged]:
    """Judges every attack on every population of members.

    Args:
        rows: The membership audit's at its last step, all tasks and blocks together.
    """
    groups: dict[tuple[object, ...], dict[str, Row]] = {}
    coins = _dealt_by_coins(rows)
    for row in rows:
        if row["name"] != BLIND:
            key = (row["name"], str(row.get("params")), row["population"])
            groups.setdefault(key, {})[str(row["metric"])] = row
    return [
        _judged(metrics, metrics["auroc"], _auroc_rule(metrics), coins)
        for metrics in groups.values()
        if "auroc" in metrics
    ]


def judged_gaps(rows: Sequence[Row], membership: Sequence[Row]) -> list[Judged]:
    """Judges every memorization measure beside held-out records.

    Args:
        rows: The memorization audit's at its last step, all tasks together.
        membership: The membership audit's: whether the texts of the same records are shifted.
    """
    shifted = {row["population"]: row.get("shifted") for row in membership}
    coins = _dealt_by_coins([*rows, *membership])
    found = []
    for row in rows:
        options = params_of(row)
        # A gap within a length class has few records; one against `never` has no shift test.
        if row["metric"] in GAPS and options.get("against") == OPPOSED and "length" not in options:
            told = {**row, "shifted": shifted.get(row["population"])}
            found.append(_judged({str(row["metric"]): told}, told, gap_verdict, coins))
    return found


def _dealt_by_coins(rows: Sequence[Row]) -> set[object]:
    """Returns the populations that fair coins dealt, as the audits' own rows say."""
    return {
        row["population"]
        for row in rows
        if row["metric"] == DEALT_BY_COINS and row.get("value") == 1.0
    }


def _auroc_rule(metrics: Mapping[str, Row]) -> _Rule:
    """Returns the rule of an attack's AUROC beside its certified TPR, if it has one."""
    if READS_THE_COINS in metrics:
        return lambda *_: _OF_TWO_MODELS
    tail = metrics.get(TAIL_METRIC, {})
    lower, upper = _number(tail.get("lower")), _number(tail.get("upper"))
    return partial(auroc_verdict, tpr_upper=upper, tpr_lower=lower)


def _judged(metrics: Mapping[str, Row], row: Row, rule: _Rule, coins: set[object]) -> Judged:
    shifted = None if row.get("shifted") is None else bool(row["shifted"])
    dealt = row["population"] in coins
    texts = _TEXTS[shifted] + ("; coins dealt the sides" if dealt else "")
    lower, upper = _number(row.get("lower")), _number(row.get("upper"))
    if lower is None or upper is None:
        return Judged(metrics, row, texts, Verdict("undecided", "no interval"))
    return Judged(metrics, row, texts, rule(lower, upper, admitted(shifted, dealt)))


def _number(value: object) -> float | None:
    return None if value is None else float(str(value))
