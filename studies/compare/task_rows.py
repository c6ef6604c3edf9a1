"""Rows that compare tasks fairly: as many records of each, with responses of the same lengths.

The audits' own rows by task take all records of a task. Tasks differ in how many records they have
and in how long their responses are, and both move an AUROC or a gap.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from audits.statistics import ComparisonEstimate, Estimate, auroc, swap_estimate
from audits.statistics.means import UtilityEstimate, gap, share_interval
from studies.compare.comparisons import (
    AttackScores,
    Clusters,
    Row,
    bounds,
    common_records,
    compared,
    comparison_pairs,
    run_identities,
    scores_of,
)
from studies.compare.memorization import (
    HELD_OUT,
    PRIVATE,
    TOKEN_ACCURACY,
    Accuracies,
    read_accuracies,
)
from studies.compare.record_clusters import cluster_ids, record_clusters
from studies.compare.task_matching import (
    FEWEST,
    MatchedSides,
    match_sides,
    record_lengths,
    record_tasks,
)
from studies.plan.cells import Cell

EQUAL_LENGTHS = "_at_equal_lengths"
RESPONSE_TOKENS = "response_tokens"


@dataclass(frozen=True)
class _Matched:
    """Matched records of both sides, and their clusters.

    Attributes:
        sides: The records.
        clusters: Number of each record's near-duplicate cluster; None where they are not at hand.
    """

    sides: MatchedSides
    clusters: Mapping[str, int] | None

    @property
    def counts(self) -> Row:
        return {
            "n_members": self.sides.members.per_task,
            "n_nonmembers": self.sides.nonmembers.per_task,
        }

    @property
    def enough(self) -> bool:
        return self.sides.fewest >= FEWEST


def task_rows(
    done: Sequence[Cell],
    results: pa.Table,
    scores: pd.DataFrame,
    by_attack: Mapping[str, Mapping[tuple[str, str], AttackScores]],
    memorization: pd.DataFrame,
    clusters_of: Clusters | None = None,
) -> Iterator[Row]:
    """Yields each task's figures at equal numbers and lengths, where lengths are in the tables.

    Metrics end in `_at_equal_lengths`: `auroc` of every attack and run, `swap_estimate` of every
    student and teacher with its counterfactual (`run_b`), `token_accuracy_gap` of every run, and
    `token_accuracy_gap_excess` of every pair. `response_tokens`, without and with that ending, is
    the mean length of a task's responses. Counts are the records that each task counts for; with
    fewer than ten a side there is no value. Intervals count near-duplicates as one.

    Args:
        done: The finished cells.
        results: Their results.
        scores: Their scores table.
        by_attack: What `attack_scores` made of it.
        memorization: Their memorization table.
        clusters_of: Number of each record's cluster, by cell; None asks `record_clusters`.
    """
    tasks, lengths = record_tasks(scores), record_lengths(memorization)
    identities = run_identities(results)
    # Attacks and runs of a replicate judge the same records.
    matched: dict[tuple[tuple[str, ...], tuple[str, ...]], MatchedSides | None] = {}
    pairs = [pair for pair in comparison_pairs(done) if pair[1].role != "control"]
    for cell, other in [*((cell, None) for cell in done), *pairs]:
        clusters = (clusters_of or record_clusters)(cell)
        pair = [cell] if other is None else [cell, other]
        for number, (attack, scored) in enumerate(scores_of(pair, by_attack)):
            runs = common_records(scored)
            audited = tuple(runs[0].members.index), tuple(runs[0].nonmembers.index)
            if audited not in matched:
                matched[audited] = match_sides(
                    runs[0].members.index, runs[0].nonmembers.index, tasks, lengths
                )
            if (sides := matched[audited]) is None:
                continue
            found = _Matched(sides, clusters)
            shared = {**identities[cell.alias], "name": attack[0], "params": attack[1]}
            shared |= {"run_b": None if other is None else other.alias}
            yield from _membership_rows(shared, runs, found)
            if other is None and number == 0:
                yield from _length_rows(shared, found)
    measured = read_accuracies(done, results, memorization, clusters_of=clusters_of)
    for accuracies in measured:
        yield from _memorization_rows(accuracies, tasks, lengths)


def _membership_rows(shared: Row, runs: Sequence[AttackScores], found: _Matched) -> Iterator[Row]:
    metric = ("auroc" if len(runs) == 1 else "swap_estimate") + EQUAL_LENGTHS
    shared = shared | {"audit": "membership", "population": PRIVATE, "metric": metric}
    for task in found.sides.names:
        yield shared | {"task": task} | found.counts | _membership(runs, found, task)


def _membership(runs: Sequence[AttackScores], found: _Matched, task: str) -> Row:
    if not found.enough:
        return {}
    ours, theirs = found.sides.members.of(task), found.sides.nonmembers.of(task)
    chosen = [AttackScores(one.members[ours.index], one.nonmembers[theirs.index]) for one in runs]
    statistic: Callable[..., Estimate | ComparisonEstimate] = (
        auroc if len(runs) == 1 else swap_estimate
    )
    return bounds(
        compared(
            statistic,
            chosen,
            found.clusters,
            member_weights=ours["weight"],
            nonmember_weights=theirs["weight"],
        )
    )


def _length_rows(shared: Row, found: _Matched) -> Iterator[Row]:
    """Yields the mean length of a task's responses, of all its records and of the matched ones."""
    both = pd.concat([found.sides.members.records, found.sides.nonmembers.records])
    shared = shared | {"audit": "membership", "population": PRIVATE}
    for task in found.sides.names:
        own, row = both[both["task"] == task], shared | {"task": task}
        yield row | {"metric": RESPONSE_TOKENS, "value": float(own["length"].mean())}
        if own["weight"].any():
            matched = float(np.average(own["length"], weights=own["weight"]))
            yield row | {"metric": RESPONSE_TOKENS + EQUAL_LENGTHS, "value": matched} | found.counts


def _memorization_rows(
    accuracies: Accuracies, tasks: pd.Series, lengths: pd.Series
) -> Iterator[Row]:
    """Yields the gap of every run and, of every pair, that of one run minus that of the other."""
    pairs: list[tuple[Cell, Cell | None]] = [(cell, None) for cell in accuracies.cells]
    for cell, other in [*pairs, *accuracies.pairs()]:
        ours, theirs = (_values(accuracies, cell, other, one) for one in (PRIVATE, HELD_OUT))
        sides = match_sides(ours.index, theirs.index, tasks, lengths)
        if sides is None:
            continue
        found = _Matched(sides, accuracies.clusters[cell.alias])
        metric = f"{TOKEN_ACCURACY}_gap" + ("" if other is None else "_excess") + EQUAL_LENGTHS
        run_b, least = (None, 0.0) if other is None else (other.alias, -1.0)
        for task in sides.names:
            row = accuracies.row(cell, TOKEN_ACCURACY, metric, task=task, run_b=run_b)
            yield row | found.counts | _gap(ours, theirs, found, task, least)


def _values(accuracies: Accuracies, cell: Cell, other: Cell | None, population: str) -> pd.Series:
    if other is None:
        return accuracies.of(cell, population)
    return accuracies.excess(cell, other, population)


def _gap(ours: pd.Series, theirs: pd.Series, found: _Matched, task: str, least: float) -> Row:
    """Returns the gap of numbers between `least` and 1."""
    if not found.enough:
        return {}
    inside = _mean(ours, found.sides.members.of(task), found, least)
    outside = _mean(theirs, found.sides.nonmembers.of(task), found, least)
    return bounds(gap(inside, outside))


def _mean(
    values: pd.Series, chosen: pd.DataFrame, found: _Matched, least: float
) -> UtilityEstimate:
    own = values[chosen.index].to_numpy(dtype=np.float64)
    weights = chosen["weight"].to_numpy()
    ids = cluster_ids(found.clusters, chosen.index)
    return share_interval(own, None if ids is None else ids.tolist(), weights=weights, low=least)
