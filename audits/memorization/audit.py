"""The memorization audit: what the model writes of its records by itself, from records to rows."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from audits.context import AuditContext, Measurements
from audits.membership.measurements import NEVER
from audits.memorization.continuations import Continuation, continuations, write_continuations
from audits.memorization.curves import curves, extraction_figures
from audits.memorization.greedy_continuation import GreedyContinuation, Request
from audits.memorization.greedy_decoding import continue_greedily
from audits.memorization.judging import Judged, judge
from audits.memorization.metrics import (
    ExactMatch,
    ExtractionStrength,
    MemorizationMetric,
    NearMatch,
    NPExtraction,
    TokenAccuracy,
)
from audits.memorization.rows import (
    gap_rows,
    never_missing_row,
    population_rows,
    record_rows,
)
from audits.scoring.shift_test import coins_row
from datamodules.batches import EncodedRecord

_PREFIXES = (0, 10, 25)


def audit_memorization(
    context: AuditContext,
    metrics: Sequence[MemorizationMetric],
    populations: Sequence[str] | None,
    baselines: Sequence[str] | None,
    private_folder: Path | None = None,
) -> Measurements:
    """Asks how much of a record the model writes by itself, given its prompt.

    Args:
        context: The model and its records.
        metrics: The metrics; all of them share one forward pass and what is generated.
        populations: Populations whose records count as members, each against its non-members; None
            takes the data's members.
        baselines: Populations that stand beside them as further non-members; None takes never where
            the data have it. Without it the non-members alone are what nobody's training met, of
            which a row tells (`never_missing_row`).
        private_folder: Where rank 0 keeps what the model wrote of its members; None keeps nothing.

    Returns:
        Rows record by record and in sum, gaps between populations, curves and figures.

    Raises:
        UserError: If there is no such population.
    """
    against = compared_populations(context, populations, baselines)
    members = list(against)
    everyone = every_population(against)
    judged: dict[str, list[Judged]] = {}
    written: list[Continuation] = []
    for name in everyone:
        continued = _continued(context, name, metrics)
        judged[name] = _judged(context, name, metrics, continued)
        if name in members and private_folder is not None:
            written += continuations(name, continued, lambda one: _requests(metrics, one))
    if written and private_folder is not None and context.model.ranks.rank == 0:
        write_continuations(written, private_folder)
    found = _measurements(judged, against)
    found.results += [coins_row(name, context.data.dealt_by_coins(name)) for name in members]
    if baselines is None and not context.data.has(NEVER):
        found.results += [never_missing_row(name) for name in members]
    return found


def check_memorization(
    context: AuditContext, populations: Sequence[str] | None, baselines: Sequence[str] | None
) -> None:
    """Refuses, before any forward pass, an audit of populations that are not there.

    Raises:
        UserError: Naming the one that is missing.
    """
    for name in every_population(compared_populations(context, populations, baselines)):
        context.population(name)


def default_metrics() -> list[MemorizationMetric]:
    """Returns every metric as defined, near matches after the prompt alone."""
    return [
        TokenAccuracy(),
        ExtractionStrength(),
        *(ExactMatch(prefix) for prefix in _PREFIXES),
        *(NPExtraction(prefix) for prefix in _PREFIXES),
        NearMatch("rouge_l"),
        NearMatch("edit_similarity"),
        NearMatch("bleu"),
    ]


def compared_populations(
    context: AuditContext, populations: Sequence[str] | None, baselines: Sequence[str] | None
) -> dict[str, list[str]]:
    """Returns the populations that stand beside each population of members."""
    if baselines is None:
        baselines = [NEVER] if context.data.has(NEVER) else []
    return {
        name: list(dict.fromkeys([context.data.opposed_to(name), *baselines]))
        for name in context.members_of(populations)
    }


def every_population(against: Mapping[str, Sequence[str]]) -> list[str]:
    """Returns every population once, those of members first."""
    return list(dict.fromkeys([*against, *chain.from_iterable(against.values())]))


def _measurements(
    judged: Mapping[str, Sequence[Judged]], against: Mapping[str, Sequence[str]]
) -> Measurements:
    """Returns the rows of populations and of gaps, and their curves and figures."""
    found = Measurements()
    for name, parts in judged.items():
        side = "n_members" if name in against else "n_nonmembers"
        for part in parts:
            found.memorization += record_rows(part)
            found.results += population_rows(part, side)
    found.figures |= extraction_figures(found.results)
    for name, others in against.items():
        for other in others:
            for inside, outside in zip(judged[name], judged[other], strict=True):
                found.results += gap_rows(inside, outside)
    found.curves |= curves(found.results)
    return found


def _continued(
    context: AuditContext, name: str, metrics: Sequence[MemorizationMetric]
) -> list[GreedyContinuation]:
    """Returns what the model says of a population's records, the same on every rank."""
    schemes = [metric.scheme for metric in metrics if metric.scheme is not None]
    return continue_greedily(
        context.model,
        context.model.encoder.encode_last(context.answered(name)),
        lambda one: _requests(metrics, one),
        list(dict.fromkeys(schemes)),
        f"memorization of {name}",
        lambda one: max(metric.read_tokens(one) for metric in metrics),
    )


def _judged(
    context: AuditContext,
    name: str,
    metrics: Sequence[MemorizationMetric],
    continued: Sequence[GreedyContinuation],
) -> list[Judged]:
    """Returns one entry for every metric, in order."""
    records = context.answered(name)
    clusters = context.data.clusters(records)
    unanswered = len(context.population(name)) - len(records)
    return [judge(metric, name, continued, clusters, unanswered) for metric in metrics]


def _requests(metrics: Sequence[MemorizationMetric], record: EncodedRecord) -> Sequence[Request]:
    return [
        request
        for metric in metrics
        if metric.judged_tokens(record)
        for request in metric.requests(record)
    ]
