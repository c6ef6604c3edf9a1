"""From judged records to the rows of the results and memorization tables."""

from collections.abc import Mapping, Sequence

from audits.memorization.estimates import estimate
from audits.memorization.judging import Judged, Slice, slices
from audits.memorization.metrics import Summary
from audits.results import Row
from audits.statistics.means import UtilityEstimate, gap


def record_rows(judged: Judged) -> list[Row]:
    """Returns one row of the memorization table for every judged record; infinite is null."""
    metric = judged.metric
    return [
        {
            "record": record,
            "population": judged.population,
            "task": task,
            "name": metric.name,
            "params": metric.params,
            "value": float(value) if abs(value) != float("inf") else None,
            "n_tokens": int(length),
        }
        for record, task, value, length in zip(
            judged.record_ids, judged.tasks, judged.values, judged.lengths, strict=True
        )
    ]


def population_rows(judged: Judged, side: str) -> list[Row]:
    """Returns the figures of one population, over all records, by length and by task.

    Args:
        judged: Its records under one metric.
        side: ``n_members`` or ``n_nonmembers``: what the population counts as.

    Returns:
        Rows without identity columns; a slice without records has a count of 0 and no value.
    """
    rows: list[Row] = []
    for summary in judged.summaries:
        for part in _parts(judged, summary, judged.tasks):
            chosen = part.rows(judged)
            found = estimate(summary, chosen, judged.clusters)
            common = _common(judged, summary, part)
            rows.append({**common, **_columns(found), side: len(chosen)})
    return rows


def gap_rows(members: Judged, nonmembers: Judged) -> list[Row]:
    """Returns the signed gaps, members minus non-members, metric by metric and slice by slice.

    Returns:
        Rows whose metric ends in ``_gap`` and whose params name the other population.
    """
    rows: list[Row] = []
    tasks = [*members.tasks, *nonmembers.tasks]
    for inside, outside in zip(members.summaries, nonmembers.summaries, strict=True):
        for part in _parts(members, inside, tasks):
            ours, theirs = part.rows(members), part.rows(nonmembers)
            sides = (
                estimate(inside, ours, members.clusters),
                estimate(outside, theirs, nonmembers.clusters),
            )
            found = None if None in sides else gap(*(one for one in sides if one is not None))
            common = _common(members, inside, part, against=nonmembers.population)
            rows.append(
                {
                    **common,
                    **_columns(found),
                    "metric": f"{inside.metric}_gap",
                    "n_members": len(ours),
                    "n_nonmembers": len(theirs),
                    "skipped": members.skipped + nonmembers.skipped,
                }
            )
    return rows


def _parts(judged: Judged, summary: Summary, tasks: Sequence[str]) -> list[Slice]:
    return list(slices(judged.metric, tasks)) if summary.detailed else [Slice()]


def _common(judged: Judged, summary: Summary, part: Slice, **more: str) -> dict[str, object]:
    params: Mapping[str, object] = judged.metric.params
    return {
        "population": judged.population,
        "task": part.task,
        "name": judged.metric.name,
        "params": {**params, **summary.params, **part.params, **more},
        "metric": summary.metric,
        "skipped": judged.skipped,
    }


def _columns(found: UtilityEstimate | None) -> dict[str, object]:
    if found is None:
        return {}
    return {"value": found.value, "lower": found.lower, "upper": found.upper}
