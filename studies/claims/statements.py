"""From the panels of a study to the statements of C1 to C4: what each claim's rule is given."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from studies.claims.crossing import measures_disagree
from studies.claims.leakage import every_technique_leaks
from studies.claims.panel import Panel
from studies.claims.sample import Sample
from studies.claims.study import ByCell, ClaimsData
from studies.claims.techniques import CONTRAST, technique_matters
from studies.claims.verdict import (
    BELOW_MARGIN,
    MEMBERSHIP_MARGIN,
    MEMORIZATION_MARGIN,
    Evidence,
    Outcome,
    Statement,
    state,
)
from studies.plan.cells import Cell

__all__ = [
    "EQUAL_UTILITY",
    "LAST_CHECKPOINT",
    "MARGINS",
    "crossing_statements",
    "judged",
    "leakage_statements",
    "technique_statements",
]

MARGINS = {"membership": MEMBERSHIP_MARGIN, "memorization": MEMORIZATION_MARGIN}
LAST_CHECKPOINT, EQUAL_UTILITY = "last checkpoint", "at equal utility"
_FLOORS = {"membership": 0.5, "memorization": 0.0}


def judged(
    data: ClaimsData,
    panel: Panel,
    rule: Callable[[Sample], Outcome],
    measure: str,
    where: str,
    *,
    column: ByCell | None = None,
    decides: bool = True,
) -> Statement:
    """Applies a rule to a panel: over replicates, or over records where there is one replicate.

    Args:
        data: The study.
        panel: Figures by replicate and column.
        rule: From a sample to a test.
        measure: membership or memorization.
        where: At which checkpoint.
        column: Column of each student where the panel is of last checkpoints, whose records give
            a single replicate its uncertainty; None where no records do.
        decides: Whether the claim's verdict hangs on it.
    """
    clear = data.figures.shift_excluded()
    name = f"{data.named(measure)}, {where}"
    sample = panel.sample()
    if sample is not None:
        return state(rule(sample), name, panel.evidence(shift_excluded=clear), decides=decides)
    found = data.over_records(measure, panel, column) if column else None
    if found is not None:
        evidence = panel.evidence(shift_excluded=clear, records=found[1])
        return state(rule(found[0]), name, evidence, decides=decides)
    return state(untested(panel), name, panel.evidence(), decides=decides)


def untested(panel: Panel) -> Outcome:
    """Returns a test without figures; one complete replicate's stand in its details."""
    rows = [panel.replicates.index(one) for one in panel.complete[:1]]
    figures = [
        f"{name}: {value:.3f}"
        for row in rows
        for name, value in zip(panel.columns, panel.values[row], strict=True)
    ]
    return Outcome("undecided", None, "not tested", details=tuple(figures))


def leakage_statements(data: ClaimsData) -> list[Statement]:
    """Returns C1's: both measures decide. A technique at each size counts as one of its own.

    Where some technique is shown to leak, by either measure, what refutes the claim is called
    "below the margin": beside a leak the word "refuted" would be read as its absence.
    """
    found: list[Statement] = []
    for measure, margin in MARGINS.items():

        def rule(
            sample: Sample, floor: float = _FLOORS[measure], margin: float = margin
        ) -> Outcome:
            return every_technique_leaks(sample, floor, margin)

        column = data.figures.name
        panel = data.panel(measure, column)
        found.append(judged(data, panel, rule, measure, LAST_CHECKPOINT, column=column))
    return beside_leaks(found)


def beside_leaks(statements: Sequence[Statement]) -> list[Statement]:
    """Returns C1's statements with a refutation called "below the margin" where there are leaks."""
    if not any(one.outcome.leaking for one in statements):
        return list(statements)
    below = [replace(one, outcome=replace(one.outcome, verdict=BELOW_MARGIN)) for one in statements]
    pairs = zip(statements, below, strict=True)
    return [renamed if one.outcome.verdict == "refuted" else one for one, renamed in pairs]


def technique_statements(data: ClaimsData) -> list[Statement]:
    """Returns C2's: membership at equal utility decides, the rest stands beside it.

    Of one replicate the last checkpoint decides, the only one with an interval over records.
    """
    found = []
    for measure, margin in MARGINS.items():

        def rule(sample: Sample, margin: float = margin) -> Outcome:
            return technique_matters(sample, margin)

        for where, panel in _both(data, measure, CONTRAST):
            decides = measure == "membership" and where == _deciding(panel)
            absent = [name for name in CONTRAST if name not in panel.columns]
            if absent:
                reasons = tuple(f"{name} is not in this study" for name in absent)
                evidence = Evidence(len(panel.complete), missing=reasons)
                name = f"{data.named(measure)}, {where}"
                found.append(state(untested(panel), name, evidence, decides=decides))
                continue
            column = _technique if where == LAST_CHECKPOINT else None
            found.append(judged(data, panel, rule, measure, where, column=column, decides=decides))
    return found


def crossing_statements(data: ClaimsData) -> list[Statement]:
    """Returns C4's: the last checkpoint decides, equal utility stands beside it."""
    panels = {measure: dict(_both(data, measure, ())) for measure in MARGINS}
    return [
        _crossing(data, panels["membership"][where], panels["memorization"][where], where)
        for where in (LAST_CHECKPOINT, EQUAL_UTILITY)
    ]


def _crossing(data: ClaimsData, x: Panel, y: Panel, where: str) -> Statement:
    columns = [name for name in x.columns if name in y.columns]
    x, y = x.restricted(columns), y.restricted(columns)
    common = sorted(set(x.complete) & set(y.complete))
    samples, records = [one.sample(common) for one in (x, y)], ""
    decides = where == LAST_CHECKPOINT
    if len(common) == 1 and decides:
        found = [
            data.over_records(measure, one, _technique)
            for measure, one in zip(MARGINS, (x, y), strict=True)
        ]
        samples = [None if one is None else one[0] for one in found]
        if None not in samples:
            records = " and ".join(one[1] for one in found if one)
    missing = dict.fromkeys([*x.missing, *y.missing])
    if len(columns) < 2:
        missing["there is no second technique"] = None
    evidence = Evidence(
        len(common), records, tuple(missing), data.figures.shift_excluded(), x.left_out
    )
    outcome, (membership, memorization) = untested(x), samples
    if membership is not None and memorization is not None and len(columns) > 1:
        outcome = measures_disagree(membership, memorization)
    measures = " and ".join(data.named(measure) for measure in MARGINS)
    return state(outcome, f"{measures}, {where}", evidence, decides=decides)


def _technique(cell: Cell) -> str | None:
    return cell.technique


def _both(data: ClaimsData, measure: str, keep: Collection[str]) -> list[tuple[str, Panel]]:
    return [
        (EQUAL_UTILITY, data.matched(measure, _technique, keep)),
        (LAST_CHECKPOINT, data.panel(measure, _technique)),
    ]


def _deciding(panel: Panel) -> str:
    return LAST_CHECKPOINT if len(panel.replicates) == 1 else EQUAL_UTILITY
