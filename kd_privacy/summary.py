"""What an audit found, in short: a line for every model and audit, and audit.json."""

import json
import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from audits.model_card.markdown import Row, figure_text
from audits.model_card.privacy_section import attack_lines, gap_lines
from audits.rows import Audit as AuditName
from audits.scoring.references import BASE

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


def short_lines(rows: Sequence[Row]) -> list[tuple[str, str, str, str]]:
    """Returns audit, figure, records and verdict of every audit of one model.

    Membership is told by the reference attack against the base where there is one, else by the
    loss; memorization by the token accuracy of members beyond non-members'.

    Args:
        rows: Its results over all tasks.
    """
    own = {
        audit: [row for row in rows if row["audit"] == str(audit)]
        for audit in (AuditName.membership, AuditName.memorization, AuditName.utility)
    }
    attacks = attack_lines([row for row in own[AuditName.membership] if row["block"] is None])
    names = [f"reference (reference={BASE})", "loss", attacks[0][0] if attacks else ""]
    best = min(attacks, key=lambda line: _place(names, line[0]), default=None)
    lines = []
    if best is not None:
        name, _, auroc, _, members, nonmembers, _, verdict = best
        lines.append(
            ("membership", f"AUROC {auroc}, {name}", f"{members} + {nonmembers}", str(verdict))
        )
    gaps = gap_lines(own[AuditName.memorization], own[AuditName.membership])
    for measure, _, gap, members, nonmembers, _, verdict in gaps:
        if str(measure).startswith("token_accuracy"):
            told = f"{measure} {gap} above non-members"
            lines.append(("memorization", told, f"{members} + {nonmembers}", str(verdict)))
    lines += _block_lines(rows)
    utility = [row for row in own[AuditName.utility] if row["block"] is None]
    if utility:
        told = "; ".join(f"{row['metric']} {figure_text(row)}" for row in utility)
        lines.append(("utility", told, str(utility[0]["n_nonmembers"]), ""))
    return lines


def _place(names: Sequence[object], name: object) -> int:
    return names.index(name) if name in names else len(names)


def _block_lines(rows: Sequence[Row]) -> list[tuple[str, str, str, str]]:
    """Returns the range of a signal's AUROCs over blocks: the largest of many is no finding."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["audit"] == str(AuditName.blocks) and row["metric"] == "auroc":
            if row["block"] is not None and row["value"] is not None:
                found.setdefault((str(row["name"]), str(row["params"])), []).append(row)
    lines = []
    for (name, _), blocks in list(found.items())[:1]:
        values = [float(str(row["value"])) for row in blocks]
        records = f"{blocks[0]['n_members']} + {blocks[0]['n_nonmembers']}"
        told = f"AUROC {min(values):.3f} to {max(values):.3f} over {len(values)} blocks, {name}"
        lines.append(("blocks", told, records, ""))
    return lines


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Returns lines of cells with their columns one under the other."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
