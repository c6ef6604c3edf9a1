"""The five findings of a study, from its tables (corrections, items 13 and 14)."""

from collections.abc import Sequence
from pathlib import Path

from studies.claims.blocks import SIGNAL, block_statements
from studies.claims.factor_statements import factor_statements
from studies.claims.statements import (
    crossing_statements,
    leakage_statements,
    technique_statements,
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

__all__ = ["finding_of", "study_findings"]

_UNIT = (
    f"the replicate: a fresh split, teacher and student, shared by all techniques; "
    f"{FEWEST_REPLICATES} or more of them. Of one replicate, the record, and the verdict is about "
    f"these weights only"
)
_TEXTS = {
    "C1": (
        "Every technique leaks membership and memorization",
        "some technique's swap estimate is at most 0.5, or its excess of the gap at most 0",
        "per technique, the mean swap estimate of the primary attack and the mean excess of the "
        "gap in token accuracy, private minus held-out records, over the counterfactual's gap",
        "none to confirm (intersection-union: all must reject); Holm over techniques to refute",
        f"confirmed if every technique rejects at {ALPHA:.0%}, one-sided, on both measures; "
        f"refuted if some technique's upper bound lies below {0.5 + MEMBERSHIP_MARGIN:g} "
        f"({MEMORIZATION_MARGIN:g} for memorization), which is called below the margin where some "
        "technique is shown to leak all the same",
    ),
    "C2": (
        "How much leaks differs by technique",
        f"MiniLLM leaks at most {MEMBERSHIP_MARGIN:g} AUROC less than the mean of ImitKD and "
        "SeqKD, or all techniques leak alike",
        "swap estimate of MiniLLM minus the mean of ImitKD's and SeqKD's, and the variance "
        "component of techniques (F test with Box's degrees of freedom, replicate as random "
        "effect), at equal held-out loss",
        "intersection-union of the two; pairs of techniques by Holm",
        f"confirmed if the contrast lies below −{MEMBERSHIP_MARGIN:g} and the variance above 0; "
        f"refuted if the contrast's lower bound lies above −{MEMBERSHIP_MARGIN:g}",
    ),
    "C3": (
        "Objective, student data and task each move the risk",
        f"some factor has no variance, or no two of its levels differ by more than "
        f"{MEMBERSHIP_MARGIN:g} AUROC",
        "per factor, the variance component of its levels (F test with Box's degrees of freedom, "
        "replicate as random effect) and the largest difference of two levels, all else equal",
        "Bonferroni over pairs of levels, Holm over the factors tested",
        f"confirmed if every factor's variance lies above 0 and its largest difference above "
        f"{MEMBERSHIP_MARGIN:g}; refuted if all differences of some factor lie below it",
    ),
    "C4": (
        "Membership and memorization disagree about techniques",
        "no two techniques exist of which one leaks more membership and the other more "
        "memorization, beyond both margins",
        f"both differences of every pair against {MEMBERSHIP_MARGIN:g} AUROC and "
        f"{MEMORIZATION_MARGIN:g} of token accuracy",
        "intersection-union within a pair, Holm over pairs",
        "confirmed if some pair crosses; refuted if no pair can, by the bounds of its differences",
    ),
    "C5": (
        "The risk differs by a large margin between blocks",
        f"blocks' AUROCs are equal, or none differ by more than {BLOCK_MARGIN:g}",
        f"AUROC of {SIGNAL} by block under the swap design, mean over techniques: variance "
        "component of blocks and largest difference; of one replicate, Wald test and simultaneous "
        "interval of largest minus smallest, student by student",
        "Bonferroni over pairs of blocks; every size must confirm",
        f"confirmed if blocks differ and the largest difference lies above {BLOCK_MARGIN:g}; "
        f"refuted if all differences lie below it",
    ),
}


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
        "C1": leakage_statements(data),
        "C2": technique_statements(data),
        "C3": factor_statements(data),
        "C4": crossing_statements(data),
        "C5": block_statements(data.figures),
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
    title, hypothesis, statistic, correction, rule = _TEXTS[name]
    deciding = [one for one in statements if one.decides]
    own = [one for one in deciding if one.about == "these weights"]
    why = "; ".join(f"{one.measure}: {one.outcome.why}" for one in deciding if one.outcome.why)
    if own:
        why = f"one replicate says nothing about techniques. These weights: {why}"
    return Finding(
        id=name,
        title=title,
        hypothesis=hypothesis,
        statistic=f"{statistic}.{attack}",
        unit=_UNIT,
        correction=correction,
        rule=rule,
        verdict="undecided" if own else all_of(one.outcome.verdict for one in deciding),
        these_weights=all_of(one.outcome.verdict for one in deciding) if own else None,
        why=why,
        statements=tuple(statements),
    )
