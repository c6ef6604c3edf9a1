"""What no attack can exceed beside what one measured, where training was differentially private.

The theorem, its proof and what it does not cover stand in docs/defences.md. It is about units: a
score for each, the mean of its records', set against units that did not take part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from audits.bounds.ceilings import auroc_ceiling, tpr_ceiling
from audits.bounds.guaranteed import guaranteed_power
from audits.membership.epsilon_rows import cluster_means
from audits.membership.metrics import ScoredRecords
from audits.rows import ResultRow, bounds
from audits.statistics import auroc, tpr_at_fpr
from common.guarantee import Guarantee

AUROC_UPPER = "auroc_upper"
UNIT_AUROC = "unit_auroc"
"""Metric of what is compared with the ceiling: the AUROC of units, by its interval's lower end."""

CEILING_PARAMS = ("certificate", "defence", "unit", "admitted")
"""Parameters that these rows have beside those of their attack."""


def ceiling_rows(
    attack: str,
    params: Mapping[str, object],
    members: ScoredRecords,
    nonmembers: ScoredRecords,
    guarantee: Guarantee,
    fprs: Sequence[float],
) -> list[ResultRow]:
    """Returns the ceilings of an attack's AUROC and TPRs, each with the figure measured on units.

    For attacks that read no coin of these units, where fair coins dealt them. A ceiling bounds an
    expectation: the lower end of a measured interval is compared with it.

    Args:
        attack: The attack's id.
        params: Its parameters.
        members: Scores of the members.
        nonmembers: Scores of the non-members.
        guarantee: Of the training that read the members.
        fprs: False-positive rates, fixed beforehand; a threshold admits so many of the units that
            did not take part, rounded down (k of m), and its ceiling is read at (k + 1)/(m + 1).

    Returns:
        No rows where no ceiling is guaranteed, a side has fewer than two units, or a unit lies on
        both sides and had no coin.
    """
    power = guaranteed_power(guarantee)
    x, y = cluster_means(members), cluster_means(nonmembers)
    shared = np.isin(members.clusters, nonmembers.clusters).any()
    if power is None or min(len(x), len(y)) < 2 or shared:
        return []
    row = ResultRow(
        population=members.population,
        name=attack,
        metric=AUROC_UPPER,
        params={
            **params,
            "certificate": str(guarantee.certificate),
            "defence": guarantee.defence,
            "unit": guarantee.unit,
        },
        n_members=len(x),
        n_nonmembers=len(y),
        skipped=members.skipped + nonmembers.skipped,
    )
    rows = [
        replace(row, value=auroc_ceiling(power, len(y))),
        replace(row, metric=UNIT_AUROC, **bounds(auroc(x, y))),
    ]
    for fpr in fprs:
        admitted = int(fpr * len(y) + 1e-9)
        at = {**row.params, "admitted": admitted}
        ceiling = tpr_ceiling(power, admitted, len(y))
        rows += [
            replace(row, metric=f"tpr_upper_at_fpr_{fpr:g}", params=at, value=ceiling),
            replace(
                row,
                metric=f"unit_tpr_at_fpr_{fpr:g}",
                params=at,
                **bounds(tpr_at_fpr(x, y, fpr)),
            ),
        ]
    return rows
