"""The page's section of findings: a verdict on each claim, and what it rests on."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from studies.claims import Finding, Statement, study_findings
from studies.claims.output import estimate_text
from studies.plan.cells import Plan
from studies.report.page_tables import PageTable, TableCell, TableColumn

__all__ = ["findings_table", "shown_findings"]


def shown_findings(plan: Plan, out: Path) -> list[Finding]:
    """Returns a study's findings; none where it has no students.

    Args:
        plan: The plan that the last run used.
        out: The study's folder, with its merged tables.
    """
    if not any(cell.role == "student" for cell in plan.cells):
        return []
    return study_findings(plan, out)


def findings_table(findings: Sequence[Finding]) -> PageTable:
    """Returns a row for each finding; the CSV has one for each statement behind it.

    Args:
        findings: What `shown_findings` returned.
    """
    columns = [
        *(TableColumn(title) for title in ("Finding", "Verdict", "These weights")),
        TableColumn("Effect [bounds]", numeric=True),
        TableColumn("n"),
    ]
    rows = [
        [
            TableCell(f"{one.id} {one.title}"),
            TableCell(one.verdict),
            TableCell(one.these_weights or "—"),
            _effect(lead),
            TableCell(
                lead.n.removeprefix("1 replicate, ") if lead.outcome.effect is not None else "—"
            ),
        ]
        for one in findings
        for lead in [_lead(one)]
    ]
    statements = [(finding, one) for finding in findings for one in finding.statements]
    return PageTable(columns, rows, pd.DataFrame([_record(*both) for both in statements]))


def _lead(finding: Finding) -> Statement:
    """Returns the statement whose figure stands in the row.

    That is the first with a figure that says what the finding says; where none does, the first of
    those that decide.
    """
    deciding = [one for one in finding.statements if one.decides]
    measured = [one for one in deciding if one.outcome.effect is not None]
    said = finding.these_weights or finding.verdict
    agreeing = [one for one in measured if one.outcome.verdict == said]
    return (agreeing or measured or deciding)[0]


def _effect(statement: Statement) -> TableCell:
    effect = statement.outcome.effect
    return TableCell(estimate_text(statement), "" if effect is None else f"{effect:.9g}")


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
