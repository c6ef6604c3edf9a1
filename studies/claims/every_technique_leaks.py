"""C1: every technique leaks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from audits.statistics import holm
from common.wording import p_value_text
from studies.claims.sample import Sample, untestable
from studies.claims.study import LAST_CHECKPOINT, MARGINS, ClaimsData
from studies.claims.verdict import (
    ALPHA,
    BELOW_MARGIN,
    Outcome,
    Statement,
    Verdict,
)

_FLOORS = {"membership": 0.5, "memorization": 0.0}


def leakage_statements(data: ClaimsData) -> list[Statement]:
    """Returns C1's: both measures decide. A technique at each size counts as one of its own.

    Where some technique is shown to leak, by either measure, what refutes the claim is called
    "below the margin": beside a leak the word "refuted" would be read as its absence.
    """
    column = data.figures.name
    statements = [
        data.judged(
            data.panel(measure, column),
            partial(every_technique_leaks, floor=_FLOORS[measure], margin=margin),
            measure,
            LAST_CHECKPOINT,
            column=column,
        )
        for measure, margin in MARGINS.items()
    ]
    return beside_leaks(statements)


def beside_leaks(statements: Sequence[Statement]) -> list[Statement]:
    """Returns C1's statements with a refutation called "below the margin" where there are leaks."""
    leaks = any(one.outcome.leaking for one in statements)
    return [
        replace(one, outcome=replace(one.outcome, verdict=BELOW_MARGIN))
        if leaks and one.outcome.verdict == "refuted"
        else one
        for one in statements
    ]


def every_technique_leaks(sample: Sample, floor: float, margin: float) -> Outcome:
    """Tests that every column lies above what a model without a leak has.

    Intersection-union: each column's one-sided test at 5%, without correction, for all of them
    have to reject. Refuted where some column's upper bound lies below the floor plus the margin;
    since one column is enough for that, Holm corrects over columns.

    Args:
        sample: Swap estimates, or excess of token accuracy, by technique.
        floor: What no leak gives: 0.5, or 0.
        margin: Smallest leak that counts.
    """
    figures = {name: sample.contrast({name: 1.0}) for name in sample.columns}
    weakest = min(figures, key=lambda name: figures[name].bounds()[0])
    leaks = {name: figure.p_above(floor) for name, figure in figures.items()}
    small = holm([figure.p_below(floor + margin) for figure in figures.values()])
    below = {name: float(p) for name, p in zip(figures, small, strict=True)}
    verdict, why = _verdict(leaks, below, floor, margin)
    lower, upper = figures[weakest].bounds()
    return Outcome(
        verdict=verdict,
        effect=figures[weakest].value,
        what=f"of the technique with the lowest bound, {weakest}",
        lower=lower,
        upper=upper,
        p_value=max(leaks.values()),
        leaking=tuple(name for name, p in leaks.items() if p <= ALPHA),
        mde=floor + max(figures.values(), key=lambda figure: figure.error).mde(),
        why=why + untestable(figures),
        details=tuple(
            f"{name}: {figure.text()}"
            + (f", {p_value_text(leaks[name])}" if figure.testable else "")
            for name, figure in figures.items()
        ),
    )


def _verdict(
    leaks: Mapping[str, float], below: Mapping[str, float], floor: float, margin: float
) -> tuple[Verdict, str]:
    small = [name for name, p in below.items() if p <= ALPHA]
    if max(leaks.values()) <= ALPHA:
        aside = f", though {', '.join(small)} by less than {margin:g}" if small else ""
        return "confirmed", f"each lies above {floor:g}{aside}"
    if small:
        return "refuted", f"{', '.join(small)}: below {floor + margin:g}"
    unclear = [name for name, p in leaks.items() if p > ALPHA]
    return "undecided", f"neither a leak nor its absence is shown of {', '.join(unclear)}"
