"""The five findings of a study, from its tables."""

from collections.abc import Sequence
from pathlib import Path

from common.prose import prose
from studies.claims import (
    blocks_differ,
    every_technique_leaks,
    factors_matter,
    measures_disagree,
    technique_matters,
)
from studies.claims.study import read_claims_data
from studies.claims.verdict import (
    ALPHA,
    BLOCK_MARGIN,
    FEWEST_REPLICATES,
    MEMBERSHIP_MARGIN,
    MEMORIZATION_MARGIN,
    Finding,
    Statement,
    all_of,
)
from studies.plan.cells import Plan

_UNIT = (
    f"the replicate: a fresh split, teacher and student, shared by all techniques; "
    f"{FEWEST_REPLICATES} or more of them. Of one replicate, the record, and the verdict is about "
    f"these weights only"
)
_NUMBERS = {
    **{"alpha": ALPHA, "membership": MEMBERSHIP_MARGIN, "memorization": MEMORIZATION_MARGIN},
    **{"smallest_swap": 0.5 + MEMBERSHIP_MARGIN, "blocks": BLOCK_MARGIN},
    "signal": blocks_differ.SIGNAL,
}
_TEXTS: dict[str, dict[str, str]] = {
    name: {part: text.format(**_NUMBERS) for part, text in claim.items()}
    for name, claim in prose(__file__).items()
}
"""Title, hypothesis, statistic, correction and rule of each claim."""


def study_findings(plan: Plan, out: Path) -> list[Finding]:
    """Returns the verdicts on the five claims, from a study's merged tables.

    Args:
        plan: The plan that the last run used.
        out: The study's folder; its tables are those of `write_study_tables`.

    Raises:
        UserError: The tables are missing.
    """
    data = read_claims_data(plan, out)
    statements = {
        "C1": every_technique_leaks.leakage_statements(data),
        "C2": technique_matters.technique_statements(data),
        "C3": factors_matter.factor_statements(data),
        "C4": measures_disagree.crossing_statements(data),
        "C5": blocks_differ.block_statements(data.figures),
    }
    attack = f" The primary attack of this study is {data.figures.attack[0]}."
    return [finding_of(name, own, attack) for name, own in statements.items()]


def finding_of(name: str, statements: Sequence[Statement], attack: str = "") -> Finding:
    """Joins the statements of a claim to its finding.

    Args:
        name: C1 to C5.
        statements: Those that decide, and those beside them.
        attack: A sentence on the primary attack.
    """
    texts = _TEXTS[name]
    deciding = [one for one in statements if one.decides]
    own = [one for one in deciding if one.about == "these weights"]
    why = "; ".join(f"{one.measure}: {one.outcome.why}" for one in deciding if one.outcome.why)
    if own:
        why = f"one replicate says nothing about techniques. These weights: {why}"
    return Finding(
        id=name,
        title=texts["title"],
        hypothesis=texts["hypothesis"],
        statistic=f"{texts['statistic']}.{attack}",
        unit=_UNIT,
        correction=texts["correction"],
        rule=texts["rule"],
        verdict="undecided" if own else all_of(one.outcome.verdict for one in deciding),
        these_weights=all_of(one.outcome.verdict for one in deciding) if own else None,
        why=why,
        statements=tuple(statements),
    )
