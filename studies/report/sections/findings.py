"""The section of findings: a verdict on each claim, and what it rests on."""

from collections.abc import Iterator, Sequence

import pandas as pd

from common.prose import prose
from common.wording import p_value_text
from studies.claims import Finding, Statement
from studies.claims.output import effect_text
from studies.claims.verdict import BELOW_MARGIN
from studies.report import tables
from studies.report.parts import Fold, Part, Terms, Text, section
from studies.report.study_data import StudyData

_SAYS = prose(__file__)
_JOINED = "C1"
"""The claim of two measures, each of which has a line of its own."""


@section("findings", "Findings")
def findings(data: StudyData) -> Iterator[Part]:
    """Yields the verdicts, where the study has students."""
    if data.findings:
        yield Text(_SAYS["text"])
        for finding in data.findings:
            yield from _folds(finding)
        yield from (findings_table(data.findings), Text(_SAYS["caption"], "caption"))


def findings_table(found: Sequence[Finding]) -> tables.PageTable:
    """Returns a row for each finding; the CSV has one for each statement behind it."""
    shown = pd.DataFrame([_row(finding, _lead(finding)) for finding in found])
    columns = [
        *tables.words(finding="Finding", verdict="Verdict", weights="These weights"),
        tables.Column("Effect [bounds]", _effect),
        *tables.words(n="n"),
    ]
    statements = [(finding, part) for finding in found for part in finding.statements]
    frame = pd.DataFrame([_record(*both) for both in statements])
    return tables.table("findings", "Verdict on each claim", columns, shown, frame)


def _lead(finding: Finding) -> Statement:
    """Returns the statement whose figure stands in the row.

    That is the first with a figure that says what the finding says; where none does, the first of
    those that decide.
    """
    deciding = [part for part in finding.statements if part.decides]
    measured = [part for part in deciding if part.outcome.effect is not None]
    said = finding.these_weights or finding.verdict
    agreeing = [part for part in measured if part.outcome.verdict == said]
    return (agreeing or measured or deciding)[0]


def _row(finding: Finding, lead: Statement) -> dict[str, object]:
    measured = lead.outcome.effect is not None
    return {
        "finding": f"{finding.id} {finding.title}",
        "verdict": finding.verdict,
        "weights": finding.these_weights,
        "effect": lead.outcome.effect,
        "bounds": effect_text(lead),
        "n": lead.n.removeprefix("1 replicate, ") if measured else None,
    }


def _effect(row: pd.Series) -> tables.TableCell:
    return tables.TableCell(row["bounds"], "" if pd.isna(row["effect"]) else f"{row['effect']:.9g}")


def _record(finding: Finding, statement: Statement) -> dict[str, object]:
    outcome = statement.outcome
    return {
        **{"claim": finding.id, "claim_verdict": finding.verdict},
        **{"claim_these_weights": finding.these_weights, "measure": statement.measure},
        **{"about": statement.about, "decides": statement.decides, "verdict": outcome.verdict},
        **{"effect": outcome.effect, "lower": outcome.lower, "upper": outcome.upper},
        **{"p_value": outcome.p_value, "smallest_visible": outcome.mde, "n": statement.n},
        **{"what": outcome.what, "why": outcome.why},
    }


def _folds(finding: Finding) -> Iterator[Fold]:
    """Yields the finding's lines: one, or one for each measure of a claim that joins several."""
    terms = {
        "Why": finding.why,
        "To be rejected": finding.hypothesis,
        "Statistic": finding.statistic,
        "Repeated is": finding.unit,
        "Many tests": finding.correction,
        "Rule": finding.rule,
    }
    details = [Terms("", list(terms.items()))]
    if finding.id != _JOINED:
        weights = f"; these weights: {finding.these_weights}" if finding.these_weights else ""
        said = [Text("".join(_said(part)), "caption") for part in finding.statements]
        yield Fold(f"{finding.id} {finding.title}: {finding.verdict}{weights}", [*details, *said])
        return
    for part in finding.statements:
        measure, word = part.measure.split(",")[0], verdict_of(finding, part)
        about = "undecided; these weights: " if part.about == "these weights" else ""
        said = [Text("".join(_said(part)), "caption")]
        yield Fold(f"{finding.id} {finding.title}, {measure}: {about}{word}", [*details, *said])


def verdict_of(finding: Finding, statement: Statement) -> str:
    """Returns a statement's verdict; a small leak is not refuted beside a shown one."""
    beside = any(part.outcome.leaking for part in finding.statements)
    verdict = statement.outcome.verdict
    return BELOW_MARGIN if verdict == "refuted" and beside else verdict


def _said(statement: Statement) -> Iterator[str]:
    """Yields the parts of a statement in words."""
    outcome = statement.outcome
    beside = "" if statement.decides else " (beside)"
    yield f"**{statement.measure}{beside}**: {outcome.verdict} about {statement.about}"
    yield f", n = {statement.n}"
    if outcome.effect is not None:
        yield f": {effect_text(statement)}, {outcome.what}"
    if outcome.mde is not None:
        yield f"; smallest visible {outcome.mde:.3f}"
    if outcome.p_value is not None:
        yield f"; {p_value_text(outcome.p_value)}"
    if outcome.why:
        yield f". {outcome.why[0].upper()}{outcome.why[1:]}"
    yield "."
    yield from (f"\n\n{line}" for line in outcome.details)
