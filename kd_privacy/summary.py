"""What an audit found, for a machine: audit.json."""

import json
import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from audits.model_card.markdown import Row
from audits.model_card.privacy_section import attack_lines, gap_lines
from audits.rows import Audit as AuditName

_METRICS = (
    "auroc",
    "tpr_at_fpr_0.01",
    "token_accuracy_gap",
    "extraction_strength_gap",
    "exact_match_rate_gap",
    "perplexity",
    "teacher_kl",
    "nats_per_token",
)
"""Metrics that stand in audit.json; the tables hold all."""

_PACKAGES = ("kd-privacy", "torch", "transformers", "tokenizers", "numpy")


def summary(
    about: Sequence[Mapping[str, object]],
    rows: Sequence[Row],
    notes: Sequence[str],
    compared: Sequence[Row] = (),
) -> dict[str, object]:
    """Returns what a machine reads of an audit, in plain values.

    Args:
        about: What was tested, of every model.
        rows: Results over all tasks.
        notes: What must be known before a figure is read.
        compared: Rows that compare the models, all of which stand in it.
    """
    chosen = [row for row in rows if row["metric"] in _METRICS and row["name"] != "balance"]
    return {
        "format": "kd-privacy audit",
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in _PACKAGES},
        },
        "tested": [dict(one) for one in about],
        "verdicts": [
            verdict
            for run in dict.fromkeys(str(row["run"]) for row in rows)
            for verdict in _verdicts(run, [row for row in rows if row["run"] == run])
        ],
        "figures": [_figure(row) for row in (*chosen, *compared)],
        "notes": list(notes),
    }


def _verdicts(run: str, rows: Sequence[Row]) -> list[dict[str, str]]:
    """Returns what is said of every attack and memorization measure of one model."""
    membership, memorization = (
        [row for row in rows if row["audit"] == str(audit) and row["block"] is None]
        for audit in (AuditName.membership, AuditName.memorization)
    )
    lines = {
        AuditName.membership: attack_lines(membership),
        AuditName.memorization: gap_lines(memorization, membership),
    }
    return [
        {"run": run, "audit": audit.value, "measure": str(line[0]), "verdict": str(line[-1])}
        for audit, told in lines.items()
        for line in told
    ]


def _figure(row: Row) -> dict[str, object]:
    found = {
        column: row.get(column)
        for column in ("run", "run_b", "audit", "name", "metric", "population", "block")
    }
    named = ("value", "lower", "upper", "p_value")
    numbers = {column: _finite(row.get(column)) for column in named}
    counts = {column: row.get(column) for column in ("n_members", "n_nonmembers", "skipped")}
    params = row.get("params")
    return {
        **found,
        "params": json.loads(params) if isinstance(params, str) else params,
        **numbers,
        **counts,
        "shifted": row.get("shifted"),
    }


def _version(package: str) -> str | None:
    """Returns the version that is installed; None of what runs from its folder."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _finite(value: object) -> float | None:
    number = None if value is None else float(str(value))
    return None if number is None or not math.isfinite(number) else number
