"""Findings as JSON and as text for a terminal."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console

from common.wording import estimate_text, p_value_text
from studies.claims.verdict import Finding, Statement

_INTERVAL = "[one-sided 95% bounds]"


def findings_json(findings: Sequence[Finding]) -> str:
    """Returns the findings as JSON; what was not measured is null."""
    return json.dumps([_plain(asdict(one)) for one in findings], indent=1, allow_nan=False)


def verdict_text(finding: Finding) -> str:
    """Returns the verdict, and that on the weights at hand where there is one.

    A verdict on weights is never one on techniques, and always says so.
    """
    if finding.these_weights is None:
        return finding.verdict
    return f"{finding.verdict} (these weights only: {finding.these_weights})"


def effect_text(statement: Statement) -> str:
    """Returns effect and bounds, or a dash."""
    outcome = statement.outcome
    return estimate_text(outcome.effect, outcome.lower, outcome.upper, missing="—")


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Prints every finding with all that its verdict rests on."""
    for finding in findings:
        lines = [
            f"{finding.id}  {finding.title}: {verdict_text(finding).upper()}",
            f"  why         {finding.why}",
            f"  null        {finding.hypothesis}",
            f"  statistic   {finding.statistic}",
            f"  unit        {finding.unit}",
            f"  correction  {finding.correction}",
            f"  rule        {finding.rule}",
        ]
        for statement in finding.statements:
            lines += _statement_lines(statement)
        for line in [*lines, ""]:
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _statement_lines(statement: Statement) -> list[str]:
    outcome = statement.outcome
    role = "decides" if statement.decides else "beside"
    lines = [
        f"  - {statement.measure} ({role}; about {statement.about}; n = {statement.n}): "
        f"{outcome.verdict}"
    ]
    if outcome.effect is not None:
        lines.append(f"      effect      {effect_text(statement)} {_INTERVAL}, {outcome.what}")
    if outcome.mde is not None:
        shown = "" if outcome.p_value is None else f"; {p_value_text(outcome.p_value)}"
        lines.append(f"      smallest visible effect, at 80% power: {outcome.mde:.3f}{shown}")
    if outcome.why:
        lines.append(f"      why         {outcome.why}")
    return lines + [f"      · {line}" for line in outcome.details]


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
