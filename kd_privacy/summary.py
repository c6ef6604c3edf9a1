"""What an audit found, in short: a line for every model and audit."""

from collections.abc import Sequence

from audits.model_card.markdown import Row, figure_text
from audits.model_card.privacy_section import attack_lines, gap_lines
from audits.rows import Audit as AuditName
from audits.scoring.references import BASE


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
