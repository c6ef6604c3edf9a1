"""Exact probabilities with which a model writes sensitive spans, and their ranks among others.

Nothing is sampled: teacher forcing gives the probability of a span's canonical tokens, which is a
lower bound on that of its string (other tokens may spell it). As in Hayes 2024, "Measuring
memorization in language models via probabilistic extraction" (arXiv 2410.19482), it is that of the
scheme under which one samples: temperature, then top-k, then top-p with the token that crosses it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audits.memorization.candidate_pass import CandidateSet, candidate_log_likelihoods
from audits.scoring.batches import run_batches
from audits.scoring.greedy_pass import ForcedResponse, force_batch
from audits.scoring.model_access import ModelAccess
from audits.spans.located import LocatedSpan, locate
from audits.spans.prompts import reworded, rewordings
from common.keys import numpy_generator
from datamodules.batches import collate
from datamodules.encoding import EncodedRecord
from datamodules.records import InstructionRecord
from kdmodules.models.causal_lm import CausalLM, model_device
from kdmodules.sampling.sampler import SamplingSettings

MOST_CANDIDATES = 100
"""Other spans that one is ranked among: drawn, where its type has more of its length."""


@dataclass(frozen=True)
class SpanScores:
    """What a model makes of a population's spans, one entry each.

    Attributes:
        spans: The spans.
        records: The records that they are of, as `LocatedSpan.record` counts them.
        unlocated: Spans that the prompt tells or the tokens do not hold.
        before: [S] log-probability, nats, given the instruction and the true text before the span.
        asked: [S] of that text and the span, given the instruction alone: a lower bound on an
            answer that holds the span.
        reworded: [S] the same, asked by one of the rewordings drawn at random; NaN without an
            instruction.
        preferred: [S] share of other spans of its type and number of tokens that the model finds
            less likely in its place, ties counting half; NaN where there is none.
    """

    spans: Sequence[LocatedSpan]
    records: Sequence[InstructionRecord]
    unlocated: int
    before: NDArray[np.float64]
    asked: NDArray[np.float64]
    reworded: NDArray[np.float64]
    preferred: NDArray[np.float64]


def span_scores(
    access: ModelAccess,
    records: Sequence[InstructionRecord],
    others: Sequence[LocatedSpan],
    scheme: SamplingSettings,
    name: str,
) -> SpanScores:
    """Measures a population's spans, the same on every rank.

    Args:
        access: The model, in evaluation mode.
        records: Those of the population that have spans.
        others: Spans that nobody's training met, among which each is ranked.
        scheme: The way of sampling.
        name: The population, for progress bars.

    Raises:
        FloatingPointError: Naming the record whose distribution is not a number.
    """
    encoded = access.encoder.encode_last(records)
    spans = locate(access.encoder, records, encoded)
    before, asked = _forced(access, encoded, spans, scheme, f"spans of {name}")
    return SpanScores(
        spans,
        records,
        sum(len(record.sensitive) for record in records) - len(spans),
        before,
        asked,
        _reworded(access, records, spans, scheme, name),
        _preferred(access, encoded, spans, others, name),
    )


def _forced(
    access: ModelAccess,
    encoded: Sequence[EncodedRecord],
    spans: Sequence[LocatedSpan],
    scheme: SamplingSettings,
    label: str,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the log-probability of each span, and of all up to its end, each [S]."""
    ends: dict[int, int] = {}
    for span in spans:
        ends[span.record] = max(span.last, ends.get(span.record, 0))
    places = list(ends)
    read = [_cut(encoded[place], ends[place]) for place in places]

    def run(lm: CausalLM, rows: Sequence[int]) -> list[ForcedResponse]:
        batch = collate([read[row] for row in rows], access.encoder.pad_id)
        return force_batch(lm, batch.to(model_device(lm)), [scheme])

    found = run_batches(access, [len(one) for one in read], label, run) if read else []
    logp = {place: one.logp[scheme] for place, one in zip(places, found, strict=True)}
    before = [math.fsum(logp[span.record][span.first : span.last]) for span in spans]
    asked = [math.fsum(logp[span.record][: span.last]) for span in spans]
    return np.array(before, dtype=np.float64), np.array(asked, dtype=np.float64)


def _cut(record: EncodedRecord, tokens: int) -> EncodedRecord:
    return replace(record, response_ids=record.response_ids[:tokens])


def _reworded(
    access: ModelAccess,
    records: Sequence[InstructionRecord],
    spans: Sequence[LocatedSpan],
    scheme: SamplingSettings,
    name: str,
) -> NDArray[np.float64]:
    """Returns the log of the mean probability over all rewordings, [S]."""
    total = np.zeros(len(spans))
    places = [place for place, one in enumerate(records) if reworded(one, "{}") is not None]
    for number, wording in enumerate(rewordings(), start=1):
        asked = [one for place in places if (one := reworded(records[place], wording))]
        encoded = access.encoder.encode_last(asked)
        own = locate(access.encoder, asked, encoded)
        _, logp = _forced(access, encoded, own, scheme, f"spans of {name}, rewording {number}")
        found = {
            (places[span.record], span.number): value for span, value in zip(own, logp, strict=True)
        }
        each = [found.get((span.record, span.number), math.nan) for span in spans]
        total += np.exp(np.array(each, dtype=np.float64))
    with np.errstate(divide="ignore"):
        return np.log(total / len(rewordings()))


def _preferred(
    access: ModelAccess,
    encoded: Sequence[EncodedRecord],
    spans: Sequence[LocatedSpan],
    others: Sequence[LocatedSpan],
    name: str,
) -> NDArray[np.float64]:
    """Returns the share of other spans that are less likely in each span's place, [S]."""
    sets = []
    for span in spans:
        record = encoded[span.record]
        prefix = (*record.prompt_ids, *record.response_ids[: span.first])
        tails = (span.ids, *candidates(span, others))
        sets.append(CandidateSet(record.record_id, prefix, tails))
    chosen = [place for place, one in enumerate(sets) if len(one.tails) > 1 and one.prefix]
    scores = candidate_log_likelihoods(
        access.lm,
        [sets[place] for place in chosen],
        access.ranks,
        access.batch_size,
        access.max_batch_tokens,
        lambda total: access.progress(f"spans of {name}: others in their place", total),
    )
    found = np.full(len(spans), math.nan)
    for place, each in zip(chosen, scores, strict=True):
        true, rest = float(each[0]), each[1:].numpy()
        found[place] = ((rest < true).sum() + 0.5 * (rest == true).sum()) / rest.size
    return found


def candidates(span: LocatedSpan, others: Sequence[LocatedSpan]) -> list[tuple[int, ...]]:
    """Returns the tokens of other spans of a span's type and length, each once.

    Args:
        span: The span, by which some are drawn where there are many.
        others: Where they are taken from; those of its own record, or that say the same, are left
            out.
    """
    alike = dict.fromkeys(
        other.ids
        for other in others
        if (other.type, len(other.ids)) == (span.type, len(span.ids))
        and other.record_id != span.record_id
        and other.ids != span.ids
        and other.text != span.text
    )
    found = list(alike)
    if len(found) <= MOST_CANDIDATES:
        return found
    rng = numpy_generator("span-candidates", span.record_id, span.number)
    return [found[place] for place in rng.choice(len(found), MOST_CANDIDATES, replace=False)]
