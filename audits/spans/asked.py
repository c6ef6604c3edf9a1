"""What a model makes of a population's spans when it is asked their records' own questions."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from audits.context import AuditContext
from audits.spans.answers import (
    Answer,
    at_least_one,
    near_verbatim,
    sample_answers,
    share_holding,
)
from audits.spans.common_substring import longest_common
from audits.spans.figures import Figure, span_figures
from audits.spans.located import LocatedSpan
from audits.spans.names import NEAR_VERBATIM
from audits.spans.options import SpanOptions
from audits.spans.probabilities import SpanScores, span_scores
from datamodules.encoding import EncodedRecord
from datamodules.records import InstructionRecord

_FEWEST_TOKENS = 10
"""Of a response that can be given away nearly verbatim: shorter ones anybody writes."""


@dataclass(frozen=True)
class Asked:
    """What was found of a population: its scores, and its figures in an order that all share."""

    scores: SpanScores
    figures: list[Figure]


def ask(
    context: AuditContext,
    options: SpanOptions,
    name: str,
    records: Sequence[InstructionRecord],
    others: Sequence[LocatedSpan],
) -> Asked:
    """Measures exact probabilities of every span, and samples answers to the first records.

    Args:
        context: The model, and the clusters of its records.
        options: How spans are looked for.
        name: The population.
        records: Those of it that have spans.
        others: As in `span_scores`.
    """
    model, scheme = context.model, options.scheme
    scores = span_scores(model, records, others, scheme, name)
    clusters = context.data.clusters(records)
    encoded = model.encoder.encode_last(records)
    told = dict.fromkeys(span.record for span in scores.spans)
    places = [place for place in told if encoded[place].prompt_ids][: options.sampled_records]
    answers = sample_answers(
        model,
        [encoded[place] for place in places],
        [min(options.answer_tokens, len(encoded[place].words)) for place in places],
        options.samples,
        scheme,
        f"answers to {name}",
    )
    by_record = dict(zip(places, answers, strict=True))
    answered = share_holding(model, by_record, scores.spans)
    figures = span_figures(scores, clusters, scheme, answered, options.samples)
    if options.sampled_records:
        figures += _near_verbatim(context, options, encoded, by_record, clusters)
    return Asked(scores, figures)


def _near_verbatim(
    context: AuditContext,
    options: SpanOptions,
    encoded: Sequence[EncodedRecord],
    answers: Mapping[int, Sequence[Answer]],
    clusters: Sequence[Hashable],
) -> list[Figure]:
    """Returns records given away by one answer and by any of all, and runs of equal tokens."""
    long = [place for place in answers if len(encoded[place].words) >= _FEWEST_TOKENS]
    own = [clusters[place] for place in long]
    skipped = len(answers) - len(long)
    hits = [near_verbatim(context.model, answers[place], encoded[place].words) for place in long]
    figures = [
        Figure(
            NEAR_VERBATIM,
            "near_verbatim_rate",
            at_least_one(hits, options.samples, n),
            own,
            {"n": n, "samples": options.samples},
            skipped=skipped,
        )
        for n in sorted({1, options.samples})
    ]
    runs = [longest_common(answers[place], [encoded[place].words]).mean() for place in long]
    lengths = np.array(runs, dtype=np.float64)
    longest = "longest_common_tokens"
    return [*figures, Figure(NEAR_VERBATIM, longest, lengths, own, low=None, skipped=skipped)]
