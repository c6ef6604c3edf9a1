"""Rows that tell how much of what a student of its size could leak a distilled student leaks."""

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from audits.statistics import auroc
from audits.statistics.relative_leakage import relative_leakage
from studies.compare.comparisons import (
    AttackScores,
    Row,
    bounds,
    common_records,
    run_identities,
    scores_of,
)
from studies.compare.record_clusters import cluster_ids, record_clusters
from studies.plan.cells import Cell

ANCHOR_STAGE = "direct"
"""Stage of students that are fine-tuned on the private records themselves.

A study names it as a stage of its own: `direct: {role: reference, base: teacher, model: student}`.
"""

Scores = Mapping[str, Mapping[tuple[str, str], AttackScores]]


def relative_leakage_rows(done: Sequence[Cell], results: pa.Table, scores: Scores) -> Iterator[Row]:
    """Yields `relative_leakage` of every student beside the anchor of its size and replicate.

    Args:
        done: The finished cells.
        results: Their results, which give the identity columns.
        scores: What `attack_scores` returned.
    """
    identities = run_identities(results)
    for cell in done:
        anchor = _anchor(done, cell)
        if cell.role not in ("student", "counterfactual") or anchor is None:
            continue
        clusters = record_clusters(cell)
        for attack, runs in scores_of([cell, anchor], scores):
            if cell.alias in identities:
                yield {
                    **identities[cell.alias],
                    **{"audit": "membership", "population": "private", "run_b": anchor.alias},
                    **{"name": attack[0], "params": attack[1], "metric": "relative_leakage"},
                    **leakage_columns(common_records(runs), clusters),
                }


def _anchor(done: Sequence[Cell], cell: Cell) -> Cell | None:
    same = ("family", "size", "replicate", "seed")
    for other in done:
        if other.stage == ANCHOR_STAGE and all(getattr(other, n) == getattr(cell, n) for n in same):
            return other
    return None


def leakage_columns(runs: Sequence[AttackScores], clusters: Mapping[str, int] | None) -> Row:
    """Returns value, bounds and counts; counts alone where the anchor leaks nothing.

    Args:
        runs: Scores of a student and of its anchor, on the same records.
        clusters: Number of each record's cluster; None where records count as independent.
    """
    student, anchor = runs
    sizes = {"n_members": len(anchor.members), "n_nonmembers": len(anchor.nonmembers)}
    if not all(sizes.values()) or auroc(anchor.members, anchor.nonmembers).value == 0.5:
        return {**sizes}
    ratio = relative_leakage(
        (student.members, anchor.members),
        (student.nonmembers, anchor.nonmembers),
        member_clusters=cluster_ids(clusters, anchor.members.index),
        nonmember_clusters=cluster_ids(clusters, anchor.nonmembers.index),
    )
    return bounds(ratio) | sizes
