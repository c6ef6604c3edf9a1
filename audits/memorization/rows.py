"""From judged records to the rows of the results and memorization tables."""

from collections.abc import Sequence
from dataclasses import replace

from audits.memorization.judging import Judged, Slice, slices
from audits.memorization.metrics import Summary
from audits.rows import MemorizationRow, ResultRow, bounds, told_tasks
from audits.statistics.means import UtilityEstimate, gap

NEVER_MISSING = "never_missing"
"""Metric of the row that says that no records stood beside the non-members."""

NEVER_MISSING_TEXT = (
    "no never-seen records were given beside the non-members, so that memorization is measured "
    "against the non-members alone: whether the two sides differ by more than the training (by "
    "what their texts are like) cannot be told from these figures"
)


def never_missing_row(population: str) -> ResultRow:
    """Returns the row that says that members stand beside their non-members alone.

    Args:
        population: The members' population.
    """
    return ResultRow(population=population, name="baseline", metric=NEVER_MISSING, value=1.0)


def record_rows(judged: Judged) -> list[MemorizationRow]:
    """Returns one row of the memorization table for every judged record; infinite is null."""
    metric = judged.metric
    return [
        {
            "record": record,
            "population": judged.population,
            "task": task or None,
            "name": metric.name,
            "params": metric.params,
            "value": float(value) if abs(value) != float("inf") else None,
            "n_tokens": int(length),
        }
        for record, task, value, length in zip(
            judged.record_ids, judged.tasks, judged.values, judged.lengths, strict=True
        )
    ]


def population_rows(judged: Judged, side: str) -> list[ResultRow]:
    """Returns the figures of one population, over all records, by length and by task.

    Args:
        judged: Its records under one metric.
        side: ``n_members`` or ``n_nonmembers``: what the population counts as.

    Returns:
        Rows without identity columns; a slice without records has a count of 0 and no value.
    """
    rows = []
    for summary in judged.summaries:
        for part in _parts(judged, summary, told_tasks(judged.tasks)):
            chosen = part.rows(judged)
            found = summary.mean(chosen, judged.clusters)
            row = _row(judged, summary, part, found)
            members = side == "n_members"
            n, m = (len(chosen), None) if members else (None, len(chosen))
            rows.append(replace(row, n_members=n, n_nonmembers=m))
    return rows


def gap_rows(members: Judged, nonmembers: Judged) -> list[ResultRow]:
    """Returns the signed gaps, members minus non-members, metric by metric and slice by slice.

    Returns:
        Rows whose metric ends in ``_gap`` and whose params name the other population.
    """
    rows = []
    tasks = told_tasks(members.tasks, nonmembers.tasks)
    for inside, outside in zip(members.summaries, nonmembers.summaries, strict=True):
        for part in _parts(members, inside, tasks):
            ours, theirs = part.rows(members), part.rows(nonmembers)
            ours_mean = inside.mean(ours, members.clusters)
            theirs_mean = outside.mean(theirs, nonmembers.clusters)
            both = None if ours_mean is None or theirs_mean is None else gap(ours_mean, theirs_mean)
            rows.append(
                replace(
                    _row(members, inside, part, both, against=nonmembers.population),
                    metric=f"{inside.metric}_gap",
                    n_members=len(ours),
                    n_nonmembers=len(theirs),
                    skipped=members.skipped + nonmembers.skipped,
                )
            )
    return rows


def _parts(judged: Judged, summary: Summary, tasks: Sequence[str]) -> list[Slice]:
    return list(slices(judged.metric, tasks)) if summary.detailed else [Slice()]


def _row(
    judged: Judged, summary: Summary, part: Slice, found: UtilityEstimate | None, **more: str
) -> ResultRow:
    return ResultRow(
        population=judged.population,
        task=part.task,
        name=judged.metric.name,
        params={**judged.metric.params, **summary.params, **part.params, **more},
        metric=summary.metric,
        skipped=judged.skipped,
        **bounds(found),
    )
