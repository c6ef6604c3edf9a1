"""Sensitive spans in words: the lines that a model card and an audit's page show of them."""

from collections.abc import Sequence

from audits.answer.judging import params_of
from audits.model_card.markdown import Row, figure_text, table
from audits.spans.names import GENERIC

FIGURE_COLUMNS = ("Measure", "Of", "Value [95% interval]", "Members", "Non-members")

_GIVEN = {
    "text_before": "the text before it given",
    "instruction": "asked by its instruction",
    "rewording": "asked in other words",
}
_MEASURES = {
    "span_probability": "probability of a span",
    "span_extraction_rate": "spans that {n} samples write with an even chance",
    "span_preferred": "other spans that are less likely in its place (chance: 0.5)",
    "span_answered": "sampled answers that hold the span",
    "near_verbatim_rate": "records nearly word for word in one of {n} answers",
    "longest_common_tokens": "tokens in a row that an answer shares",
    "span_in_answer": "answers that hold one of {spans} spans",
}
_CLAIM = (
    "Spans are the parts of a record that its owner marked as sensitive. Probabilities are exact, "
    "of the spans' own tokens, and so lower bounds; what a model writes of records that it never "
    "met stands beside the members', and only what members have beyond it was learnt."
)


def measure_of(row: Row) -> str:
    """Returns what a row of the audit of spans measures, in words; its type of span is not told."""
    options = params_of(row)
    told = _MEASURES[str(row["metric"]).removesuffix("_gap")].format_map(options)
    if "given" in options:
        told += f", {_GIVEN[str(options['given'])]}"
    return f"generic prompts: {told}" if row["name"] == GENERIC else told


def span_rows(rows: Sequence[Row]) -> list[Row]:
    """Returns the rows that a reader is shown: all types of spans together, rates of the question.

    Args:
        rows: Of the audit of spans.
    """
    return [
        row
        for row in rows
        if str(row["metric"]).removesuffix("_gap") in _MEASURES
        and "type" not in (options := params_of(row))
        and (options.get("given") == "instruction" or "n" not in options or "given" not in options)
    ]


def span_lines(rows: Sequence[Row]) -> list[tuple[object, ...]]:
    """Returns one line of `FIGURE_COLUMNS` for every figure, populations side by side.

    Args:
        rows: Of the audit of spans, at its last step.
    """
    lines: dict[str, list[tuple[object, ...]]] = {}
    for row in span_rows(rows):
        against = params_of(row).get("against")
        of = f"{row['population']} minus {against}" if against else row["population"]
        counts = [
            "" if row.get(side) is None else row[side] for side in ("n_members", "n_nonmembers")
        ]
        measure = measure_of(row)
        lines.setdefault(measure, []).append((measure, of, figure_text(row), *counts))
    return [line for same in lines.values() for line in same]


def span_section(rows: Sequence[Row]) -> str:
    """Returns the figures of spans of a model card; empty where none were looked for."""
    lines = span_lines(rows)
    return f"{table(FIGURE_COLUMNS, lines)}\n\n{_CLAIM}" if lines else ""
