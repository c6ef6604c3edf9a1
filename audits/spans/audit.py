"""The audit of extraction the way people ask for it, from records to rows."""

from collections.abc import Sequence
from pathlib import Path

from audits.context import AuditContext, Measurements
from audits.membership.measurements import NEVER
from audits.memorization.audit import compared_populations, every_population
from audits.scoring.shift_test import coins_row
from audits.spans.asked import ask
from audits.spans.figures import gap_rows, population_rows, span_records
from audits.spans.generic import generic_figures
from audits.spans.located import locate
from audits.spans.options import SpanOptions
from audits.spans.prompts import generic_prompts, rewordings
from audits.spans.worst import write_worst_spans
from common.errors import UserError
from datamodules.records import InstructionRecord


def check_spans(
    context: AuditContext, populations: Sequence[str] | None, baselines: Sequence[str] | None
) -> None:
    """Refuses, before any forward pass, populations that are not there or have no spans.

    Raises:
        UserError: Naming the one.
    """
    for name in every_population(compared_populations(context, populations, baselines)):
        if not _with_spans(context, name):
            raise UserError(
                f"no record of the population {name!r} has sensitive spans: give the records of "
                "every side a field 'sensitive', or detect_pii presidio"
            )


def spans_cost(
    context: AuditContext,
    options: SpanOptions,
    populations: Sequence[str] | None,
    baselines: Sequence[str] | None,
) -> str:
    """Returns what the audit will run, in words: passes over records with spans, and answers."""
    everyone = every_population(compared_populations(context, populations, baselines))
    records = [_with_spans(context, name) for name in everyone]
    spans = sum(len(one.sensitive) for own in records for one in own)
    told = (
        f"{1 + len(rewordings())} passes over {sum(map(len, records))} records with spans, and "
        f"{spans} spans ranked among others in their place"
    )
    if not options.sampled_records:
        return told
    sampled = sum(min(len(own), options.sampled_records) for own in records)
    answers = (sampled + len(generic_prompts())) * options.samples
    return f"{told}; {answers} answers of up to {options.answer_tokens} tokens are sampled"


def audit_spans(
    context: AuditContext,
    options: SpanOptions,
    populations: Sequence[str] | None,
    baselines: Sequence[str] | None,
    private_folder: Path | None = None,
) -> Measurements:
    """Asks how likely a model writes the sensitive spans of its records, and how much else.

    Args:
        context: The model and its records; those without spans are not read.
        options: How spans are looked for.
        populations: Populations whose records count as members; None takes the data's members.
        baselines: Populations beside them, as in `audit_memorization`.
        private_folder: Where rank 0 keeps the members' worst spans by id; None keeps nothing.

    Returns:
        Rows span by span and in sum, and gaps between populations.

    Raises:
        UserError: If there is no such population.
    """
    check_spans(context, populations, baselines)
    against = compared_populations(context, populations, baselines)
    everyone = every_population(against)
    unmet = NEVER if NEVER in everyone else everyone[-1]
    records = {name: _with_spans(context, name) for name in everyone}
    encoder = context.model.encoder
    others = locate(encoder, records[unmet], encoder.encode_last(records[unmet]), told=True)
    asked = {name: ask(context, options, name, own, others) for name, own in records.items()}
    if options.sampled_records:
        held = generic_figures(context.model, options, [one.scores for one in asked.values()])
        for one, figures in zip(asked.values(), held, strict=True):
            one.figures.extend(figures)
    found = Measurements()
    for name, one in asked.items():
        side = "n_members" if name in against else "n_nonmembers"
        found.memorization += span_records(one.scores, name)
        found.results += population_rows(one.figures, name, side)
    for name, beside in against.items():
        for other in beside:
            found.results += gap_rows(asked[name].figures, asked[other].figures, name, other)
    found.results += [coins_row(name, context.data.dealt_by_coins(name)) for name in against]
    found.curves |= _curves(found)
    if private_folder is not None and context.model.ranks.rank == 0:
        write_worst_spans(found.memorization, next(iter(against)), private_folder)
    return found


def _with_spans(context: AuditContext, name: str) -> list[InstructionRecord]:
    return [record for record in context.answered(name) if record.sensitive]


def _curves(found: Measurements) -> dict[str, float]:
    """Returns what is followed over a run: probabilities and ranks of each population's spans."""
    return {
        f"spans/{row.population}/{row.metric}{f'/{given}' if given else ''}": row.value
        for row in found.results
        for given in [row.params.get("given")]
        if row.metric in _FOLLOWED and "type" not in row.params and row.value is not None
    }


_FOLLOWED = ("span_probability", "span_preferred", "span_answered")
