"""The privacy and memorization sections of a model card: what its audits found, and a verdict."""

import json
from collections.abc import Sequence

from audits.answer.judging import OPPOSED, judged_attacks, judged_gaps
from audits.membership.epsilon_rows import BOUND_PARAMS
from audits.memorization.rows import NEVER_MISSING, NEVER_MISSING_TEXT
from audits.model_card.markdown import Row, cell, figure_text, options_text, table
from audits.statistics.verdict import RULES
from common.guarantee import Guarantee

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
_EPSILON = "epsilon_lower"
_EPSILON_COLUMNS = ("Attack", "Population", "Epsilon at least", "Delta", "Unit", "Coins")
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


def guarantee_section(told: Guarantee) -> str:
    """Returns what the training guarantees, what it covers and what it does not."""
    scope = {"Covers": told.covers, "Does not cover": told.does_not_cover}
    lines = [f"- {name}: {', '.join(map(cell, what))}." for name, what in scope.items() if what]
    return "\n".join([f"**Guarantee:** {cell(told.short)}.", *([""] if lines else []), *lines])


def attack_lines(rows: Sequence[Row]) -> list[tuple[object, ...]]:
    """Returns one line of `ATTACK_COLUMNS` for every attack and population.

    Args:
        rows: The membership audit's at its last step, all tasks and blocks together.
    """
    return [
        (
            f"{judged.row['name']}{options_text(judged.row)}",
            f"{judged.row['population']} against non-members",
            figure_text(judged.row),
            figure_text(judged.metrics["tpr_at_fpr_0.01"])
            if "tpr_at_fpr_0.01" in judged.metrics
            else "not measured",
            judged.row.get("n_members"),
            judged.row.get("n_nonmembers"),
            judged.texts,
            str(judged.verdict),
        )
        for judged in judged_attacks(rows)
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
    return [
        (
            f"{str(judged.row['metric']).removesuffix('_gap')}"
            f"{options_text(judged.row, ('against',))}",
            f"{judged.row['population']} minus {OPPOSED}",
            figure_text(judged.row),
            judged.row.get("n_members"),
            judged.row.get("n_nonmembers"),
            judged.texts,
            str(judged.verdict),
        )
        for judged in judged_gaps(rows, membership)
    ]
