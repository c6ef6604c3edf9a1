"""Figures of spans and answers, and the rows that tell them of populations and of their gaps."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from audits.memorization.metrics.n_p_extraction import samples_needed
from audits.rows import MemorizationRow, ResultRow, bounds
from audits.spans.names import EVEN_CHANCE, GIVEN, SAMPLES, SPAN
from audits.spans.probabilities import SpanScores
from audits.statistics.means import UtilityEstimate, gap, ratio_interval, share_interval
from kdmodules.sampling.sampler import SamplingSettings


@dataclass(frozen=True)
class Figure:
    """The mean of one number over spans, records or answers.

    Attributes:
        name: One of those in `audits.spans.names`.
        metric: What the number is.
        values: [N], in [low, 1] unless it is a length.
        clusters: [N] what varies together.
        params: What tells it from others of its metric.
        types: [N] types of spans by which it is told as well; None for no types.
        low: Lowest number; None of a length, which has no bounds.
        skipped: What is left out of it.
    """

    name: str
    metric: str
    values: NDArray[np.float64]
    clusters: Sequence[Hashable]
    params: dict[str, object] = field(default_factory=dict)
    types: Sequence[str] | None = None
    low: float | None = 0.0
    skipped: int = 0

    def mean(self, kind: str | None = None) -> tuple[UtilityEstimate | None, int]:
        """Returns the mean with its interval, and of how many; those not defined are left out.

        Args:
            kind: Spans of this type alone; None takes all.
        """
        kept = ~np.isnan(self.values)
        if kind is not None and self.types is not None:
            kept &= np.array([one == kind for one in self.types], dtype=bool)
        places = np.flatnonzero(kept)
        if not places.size:
            return None, 0
        values = self.values[places]
        clusters = [self.clusters[place] for place in places.tolist()]
        if self.low is None:
            return ratio_interval(values, np.ones_like(values), clusters), len(places)
        return share_interval(values, clusters, low=self.low), len(places)


def span_figures(
    found: SpanScores,
    clusters: Sequence[Hashable],
    scheme: SamplingSettings,
    answered: NDArray[np.float64],
    samples: int,
) -> list[Figure]:
    """Returns what is told of a population's spans.

    Args:
        found: Their probabilities.
        clusters: Clusters of its records.
        scheme: The way of sampling.
        answered: [S] share of sampled answers that hold the span; NaN where none was sampled.
        samples: Answers of each record.
    """
    own = [clusters[span.record] for span in found.spans]
    types = [span.type for span in found.spans]
    way: dict[str, object] = {"temperature": scheme.temperature, "top_k": scheme.top_k}
    way["top_p"] = scheme.top_p

    def figure(
        metric: str, values: NDArray[np.float64], typed: bool, params: dict[str, object]
    ) -> Figure:
        kinds = types if typed else None
        return Figure(SPAN, metric, values, own, params, kinds, skipped=found.unlocated)

    figures = []
    for given, logp in zip(GIVEN, (found.before, found.asked, found.reworded), strict=True):
        params = {"given": given, **way}
        figures.append(figure("span_probability", np.exp(np.minimum(logp, 0.0)), True, params))
        needed = np.where(np.isnan(logp), np.nan, samples_needed(logp, EVEN_CHANCE))
        for n in SAMPLES:
            rate = np.where(np.isnan(needed), np.nan, (needed <= n).astype(np.float64))
            options = {**params, "n": n, "p": EVEN_CHANCE}
            figures.append(figure("span_extraction_rate", rate, False, options))
    figures.append(figure("span_preferred", found.preferred, True, {}))
    figures.append(figure("span_answered", answered, True, {**way, "samples": samples}))
    return figures


def span_records(found: SpanScores, population: str) -> list[MemorizationRow]:
    """Returns two rows of the memorization table for every span: log-probabilities, no text."""
    return [
        {
            "record": found.records[span.record].id,
            "population": population,
            "task": found.records[span.record].task or None,
            "name": SPAN,
            "params": {"given": given, "span": span.number, "type": span.type},
            "value": float(value) if np.isfinite(value) else None,
            "n_tokens": len(span.ids),
        }
        for given, logp in zip(GIVEN, (found.before, found.asked), strict=False)
        for span, value in zip(found.spans, logp, strict=True)
    ]


def population_rows(figures: Sequence[Figure], population: str, side: str) -> Iterator[ResultRow]:
    """Yields every figure of a population, over all spans and by type.

    Args:
        figures: Its figures.
        population: Its name.
        side: ``n_members`` or ``n_nonmembers``: what it counts as.
    """
    for one in figures:
        for kind in _kinds(one):
            mean, n = one.mean(kind)
            members = side == "n_members"
            yield _row(
                one,
                population,
                one.metric,
                kind,
                mean,
                {},
                n if members else None,
                None if members else n,
            )


def gap_rows(
    ours: Sequence[Figure], theirs: Sequence[Figure], population: str, other: str
) -> Iterator[ResultRow]:
    """Yields members minus non-members of every figure, ``against`` saying which those are."""
    for inside, outside in zip(ours, theirs, strict=True):
        for kind in _kinds(inside):
            (mean, n), (beside, m) = inside.mean(kind), outside.mean(kind)
            both = None if mean is None or beside is None else gap(mean, beside)
            metric = f"{inside.metric}_gap"
            against: dict[str, object] = {"against": other}
            yield _row(inside, population, metric, kind, both, against, n, m)


def _kinds(figure: Figure) -> list[str | None]:
    return [None, *sorted(set(figure.types or ()))]


def _row(
    figure: Figure,
    population: str,
    metric: str,
    kind: str | None,
    mean: UtilityEstimate | None,
    more: dict[str, object],
    n_members: int | None,
    n_nonmembers: int | None,
) -> ResultRow:
    typed = {} if kind is None else {"type": kind}
    return ResultRow(
        population=population,
        name=figure.name,
        params={**figure.params, **typed, **more},
        metric=metric,
        n_members=n_members,
        n_nonmembers=n_nonmembers,
        skipped=figure.skipped,
        **bounds(mean),
    )
