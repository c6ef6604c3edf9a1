"""Counts of records that tokens do not show whole, or not as their words stand."""

from collections.abc import Collection, Mapping

from audits.rows import Audit, ResultRow
from datamodules.encoded import EncodedRecord

AUDIT = Audit.records
"""The rows of this audit count records; figures of other audits hold for what was left of them."""


def count_records(encoded: Collection[EncodedRecord]) -> dict[str, int]:
    """Returns how many records each fault befell, by name.

    Args:
        encoded: Records with a response.
    """
    return {
        "prompts_cut": sum(one.prompt_cut for one in encoded),
        "responses_cut": sum(one.response_cut for one in encoded),
        "boundaries_merged": sum(one.boundary_merged for one in encoded),
        "special_tokens": sum(one.special_tokens > 0 for one in encoded),
    }


def count_rows(
    population: str, counts: Mapping[str, int], n: int, unanswered: int, members: bool
) -> list[ResultRow]:
    """Returns a row for every count.

    Args:
        population: Whose records.
        counts: From `count_records`.
        n: Records that they are counts of.
        unanswered: Records without a response beside them.
        members: Whether the population is audited as members.
    """
    return [
        ResultRow(
            audit=AUDIT,
            population=population,
            name="encoding",
            metric=metric,
            value=float(count),
            n_members=n if members else None,
            n_nonmembers=None if members else n,
            skipped=unanswered,
        )
        for metric, count in counts.items()
    ]


def counts_note(rows: Collection[Mapping[str, object]]) -> str | None:
    """Returns what a reader must know of the records of a run, in one sentence; None if nothing.

    Args:
        rows: Rows of a results table.
    """
    told = {
        "prompts_cut": "have a prompt that was cut",
        "responses_cut": "have a response that was cut",
        "boundaries_merged": "have a token that is prompt and response",
        "special_tokens": "spell a special token",
    }
    parts = [
        f"{float(str(row['value'])):.0f} of {row['n_members'] or row['n_nonmembers']} "
        f"{row['population']} records {told[str(row['metric'])]}"
        for row in rows
        if row.get("audit") == AUDIT and row["metric"] in told and row["value"]
    ]
    return "; ".join(dict.fromkeys(parts)) or None
