"""Rows that tell how much of what a student of its size could leak a distilled student leaks."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from audits.statistics import auroc
from audits.statistics.relative_leakage import relative_leakage
from studies.compare.comparisons import AttackScores, record_clusters, run_identities
from studies.plan.cells import Cell

__all__ = ["ANCHOR_STAGE", "relative_leakage_rows"]

ANCHOR_STAGE = "direct"
"""Stage of students that are fine-tuned on the private records themselves (corrections, item 27).

A study names it as a stage of its own: `direct: {role: reference, base: teacher, model: student}`.
"""

Row = dict[str, object]
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
        for attack, ours in scores.get(cell.alias, {}).items():
            theirs = scores.get(anchor.alias, {}).get(attack)
            if theirs is None or cell.alias not in identities:
                continue
            yield {
                **identities[cell.alias],
                **{"audit": "membership", "population": "private", "run_b": anchor.alias},
                **{"name": attack[0], "params": attack[1], "metric": "relative_leakage"},
                **_columns(ours, theirs, clusters),
            }


def _anchor(done: Sequence[Cell], cell: Cell) -> Cell | None:
    same = ("family", "size", "replicate", "seed")
    for other in done:
        if other.stage == ANCHOR_STAGE and all(getattr(other, n) == getattr(cell, n) for n in same):
            return other
    return None


def _columns(ours: AttackScores, theirs: AttackScores, clusters: Mapping[str, int] | None) -> Row:
    """Returns value, bounds and counts; counts alone where the anchor leaks nothing."""
    sides = [
        _paired(ours.members, theirs.members),
        _paired(ours.nonmembers, theirs.nonmembers),
    ]
    counts: Row = {"n_members": len(sides[0]), "n_nonmembers": len(sides[1])}
    if not all(counts.values()):
        return counts
    numbers = [
        None if clusters is None else np.array([clusters[one] for one in side.index])
        for side in sides
    ]
    (x, u), (y, v) = ((side["ours"].to_numpy(), side["theirs"].to_numpy()) for side in sides)
    if auroc(u, v).value == 0.5:
        return counts
    found = relative_leakage(
        (x, u), (y, v), member_clusters=numbers[0], nonmember_clusters=numbers[1]
    )
    return {"value": found.value, "lower": found.lower, "upper": found.upper, **counts}


def _paired(ours: pd.Series, theirs: pd.Series) -> pd.DataFrame:
    return pd.concat({"ours": ours, "theirs": theirs}, axis=1, join="inner")
