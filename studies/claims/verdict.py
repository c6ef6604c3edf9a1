"""What a claim says: tests of figures, statements about a study, findings; and their constants.

Margins, error rate and number of replicates were fixed before looking at any result.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Verdict = Literal["confirmed", "refuted", "below the margin", "undecided"]
# What refutes C1 where a leak is shown all the same: some technique's is smaller than what counts.
BELOW_MARGIN: Verdict = "below the margin"

# One-sided error rate of every test.
ALPHA = 0.05
# Below this many replicates nothing is said about techniques, only about the weights at hand.
FEWEST_REPLICATES = 5
# Smallest differences that count: AUROC, token accuracy, and AUROC between blocks.
MEMBERSHIP_MARGIN = 0.02
MEMORIZATION_MARGIN = 0.01
BLOCK_MARGIN = 0.05


@dataclass(frozen=True)
class Outcome:
    """What a rule says of figures, whatever lies behind them.

    Attributes:
        verdict: By the rule alone.
        effect: The figure that decides; None where it could not be measured.
        what: What the figure is.
        lower: One-sided 95% lower bound; with `upper` an interval of 90%. None where there is no
            variance to make a bound of.
        upper: One-sided 95% upper bound.
        p_value: Of "not confirmed", after correction; None without a test.
        mde: Smallest effect that would be confirmed with a probability of 80%, on the scale of
            `effect`.
        why: The rule applied, in a sentence.
        details: Lines on each technique, pair or level.
        leaking: Techniques that are shown to leak, where the test is of that.
    """

    verdict: Verdict
    effect: float | None
    what: str
    lower: float | None = None
    upper: float | None = None
    p_value: float | None = None
    mde: float | None = None
    why: str = ""
    details: tuple[str, ...] = ()
    leaking: tuple[str, ...] = ()


@dataclass(frozen=True)
class Statement:
    """A test with its scope.

    Attributes:
        measure: What was compared.
        outcome: The figures; its verdict is what may be said within the scope.
        about: "techniques", or "these weights" where the only unit is the record.
        n: Number of replicates, and of records where they are the unit.
        decides: Whether the claim's verdict hangs on it; the others stand beside it.
    """

    measure: str
    outcome: Outcome
    about: Literal["techniques", "these weights"]
    n: str
    decides: bool = True


@dataclass(frozen=True)
class Finding:
    """A claim and its verdict.

    Attributes:
        id: C1 to C5.
        title: The claim.
        hypothesis: What has to be rejected for it to hold.
        statistic: What is computed.
        unit: What is repeated.
        correction: For how many hypotheses, and how.
        rule: When it is confirmed, when refuted.
        verdict: About techniques.
        these_weights: About the weights of the one replicate there is; None where replicates are
            the unit, or there is no such test.
        why: The reason for the verdict.
        statements: What the verdict rests on, and what stands beside it.
    """

    id: str
    title: str
    hypothesis: str
    statistic: str
    unit: str
    correction: str
    rule: str
    verdict: Verdict
    these_weights: Verdict | None
    why: str
    statements: tuple[Statement, ...]


def state(
    outcome: Outcome,
    measure: str,
    replicates: int,
    *,
    records: str = "",
    missing: Sequence[str] = (),
    shift_excluded: bool = True,
    left_out: Sequence[str] = (),
    decides: bool = True,
) -> Statement:
    """Returns a test as a statement, undecided where what lies behind it does not carry it.

    Records alone carry a verdict about the weights at hand. A verdict about techniques needs five
    replicates, all that was planned. A teacher learns the distribution of its side too, so that a
    shift between the two record sets can pass for a leak, and can hide one: neither a confirmation
    nor a refutation stands unless it is excluded.

    Args:
        outcome: By its rule alone.
        measure: What was compared.
        replicates: Complete replicates.
        records: Records behind a test of one replicate; empty where replicates are the unit.
        missing: Planned figures that are not there, as "run: reason" or a reason alone.
        shift_excluded: Whether private and held-out records are known to be alike: by the coins
            that dealt them, elsewhere by their texts.
        left_out: Techniques that cannot be compared with the others at equal utility.
        decides: Whether the claim's verdict hangs on it.
    """
    reasons = [f"not there: {_listed(missing)}"] if missing else []
    if not records and replicates < FEWEST_REPLICATES:
        reasons.append(
            f"R = {replicates}: a statement about techniques needs "
            f"{FEWEST_REPLICATES} complete replicates"
        )
    if outcome.verdict != "undecided" and not shift_excluded:
        reasons.append(
            "coins are not known to have dealt private and held-out records, and a shift between "
            "them, which can pass for a leak or hide one, is not excluded"
        )
    if reasons:
        why = "; ".join([*reasons, outcome.why]).rstrip("; ")
        outcome = replace(outcome, verdict="undecided", why=why)
    details = outcome.details
    if left_out:
        aside = f"left out, as they start beyond that utility: {', '.join(left_out)}"
        details = (aside, *details)
    lower, upper, mde = (_known(bound) for bound in (outcome.lower, outcome.upper, outcome.mde))
    outcome = replace(outcome, details=details, lower=lower, upper=upper, mde=mde)
    count = f"{replicates} replicate{'s' if replicates != 1 else ''}"
    if records:
        return Statement(measure, outcome, "these weights", f"{count}, {records}", decides)
    return Statement(measure, outcome, "techniques", count, decides)


def _known(number: float | None) -> float | None:
    """Returns a bound, or None where there was no variance to make one of."""
    return number if number is not None and math.isfinite(number) else None


def all_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Returns the verdict of a conjunction: one refutation refutes it, by its own word.

    >>> all_of(["confirmed", "confirmed"]), all_of(["undecided", "refuted"]), all_of([])
    ('confirmed', 'refuted', 'undecided')
    """
    found = list(verdicts)
    for refutation in ("refuted", BELOW_MARGIN):
        if refutation in found:
            return refutation
    return "confirmed" if found and set(found) == {"confirmed"} else "undecided"


def _listed(missing: Sequence[str], most: int = 3) -> str:
    """Returns what is missing, with the runs that share a reason told together.

    >>> _listed(["a: failed", "b: failed", "no task"])
    'failed (a, b), no task'
    """
    runs: dict[str, list[str]] = {}
    for one in missing:
        run, colon, reason = one.partition(": ")
        runs.setdefault(reason if colon else run, []).extend([run] if colon else [])
    return ", ".join(
        f"{reason} ({', '.join(own[:most])}{f' and {len(own) - most} more' * (len(own) > most)})"
        if own
        else reason
        for reason, own in runs.items()
    )
