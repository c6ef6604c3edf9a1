"""From scores to lower bounds on epsilon and mu out of one run, where coins dealt the sides.

See `audits.statistics.one_run_epsilon` and `one_run_mu`. A bound is a statement about the coins'
unit: the canary, or the near-duplicate cluster of a coin-flipped pool.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from audits.membership.attacks import Attack
from audits.membership.measurements import AUDITED
from audits.membership.metrics import ScoredRecords
from audits.membership.view import AuditView
from audits.rows import Bounds, ResultRow
from audits.statistics import Estimate, epsilon_lower_bound
from audits.statistics.one_run_mu import mu_lower_bound

READS_THE_COINS = "reads_the_coins"
"""Metric of the row, 1, of an attack that tells of a reference as much as of the audited model."""

BOUND_PARAMS = ("delta", "unit", "looks")
"""Parameters that a bound's row has beside those of its attack."""

_ERROR = 0.05
# Below 1 / N, at which publishing one of N units whole would be private; above what N can show.
_DELTA_POWER = -1.1


def epsilon_rows(
    attack: str,
    params: Mapping[str, object],
    members: ScoredRecords,
    nonmembers: ScoredRecords,
    unit: str,
    looks: int,
) -> list[ResultRow]:
    """Returns the bounds on epsilon at delta 0 and at N^-1.1, N the number of units, and on mu.

    A unit is a cluster, scored by its records' mean. The error of 5% is shared out over the looks
    (Bonferroni), so that the largest bound of an audit holds with 95% confidence. The two deltas
    and mu are no three looks: each bound is too large where a count of right guesses is, and of
    such counts the smallest is as rare as the looks pay for.
    Units whose records cannot be scored are left out, which depends on their text and not on their
    coin. A cluster on both sides had no coin of its own: then there is no bound.

    Args:
        attack: The attack's id.
        params: Its parameters.
        members: Scores of the members.
        nonmembers: Scores of the non-members.
        unit: What a coin decided on: ``record`` or ``cluster``.
        looks: Attacks on populations that coins dealt, all of them named beforehand.
    """
    sides = [cluster_means(side) for side in (members, nonmembers)]
    n, m = (len(side) for side in sides)
    none = min(n, m) == 0 or np.isin(members.clusters, nonmembers.clusters).any()
    known = dict(zip(BOUND_PARAMS[1:], (unit, looks), strict=True))
    row = ResultRow(
        population=members.population,
        name=attack,
        metric="mu_lower",
        params={**params, **known},
        n_members=n,
        n_nonmembers=m,
        skipped=members.skipped + nonmembers.skipped,
    )
    level, (x, y) = 1 - _ERROR / looks, sides
    rows = []
    for delta in (0.0, max(1, n + m) ** _DELTA_POWER):
        at = replace(row, metric="epsilon_lower", params={**row.params, BOUND_PARAMS[0]: delta})
        rows.append(at if none else replace(at, **_ends(epsilon_lower_bound(x, y, delta, level))))
    return [*rows, row if none else replace(row, **_ends(mu_lower_bound(x, y, level)))]


def _ends(bound: Estimate) -> Bounds:
    """Returns a lower bound as columns; its upper end is infinite, and left out."""
    return {"value": bound.value, "lower": bound.lower}


def coins_read_row(attack: Attack, population: str) -> ResultRow:
    """Returns the row that says so of an attack that `reads_the_coins`."""
    return ResultRow(
        population=population,
        name=attack.name,
        params=attack.params,
        metric=READS_THE_COINS,
        value=1.0,
    )


def reads_the_coins(attack: Attack, members: AuditView, nonmembers: AuditView) -> bool:
    """Whether a reference of an attack met one side and not the other, as by the same coins.

    Such an attack tells of two models together, and its guesses bound no epsilon of one of them: a
    counterfactual met what the audited model did not.
    """
    models = {one.model for one in attack.requires} - {AUDITED}
    return any(
        bool((ours.all() and not theirs.any()) or (theirs.all() and not ours.any()))
        for ours, theirs in ((members.met_by(name), nonmembers.met_by(name)) for name in models)
    )


def cluster_means(side: ScoredRecords) -> NDArray[np.float64]:
    """Returns the mean score of each cluster of a side, in the order of their ids."""
    _, index = np.unique(side.clusters, return_inverse=True)
    means = np.bincount(index, weights=side.scores) / np.bincount(index)
    return np.asarray(means, dtype=np.float64)
