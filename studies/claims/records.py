"""One set of weights: the uncertainty over records of figures measured on the same ones."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from audits.results import params_json
from audits.statistics.clusters import critical_value
from audits.statistics.delong import rank_statistics
from audits.statistics.estimates import FloatArray
from studies.claims.figures import ACCURACY_PARAMS, StudyFigures
from studies.claims.sample import Sample
from studies.claims.verdict import ALPHA
from studies.compare.comparisons import AttackScores, common_records, scores_of
from studies.compare.memorization import HELD_OUT, PRIVATE, Accuracies
from studies.compare.record_clusters import cluster_ids, record_clusters
from studies.plan.cells import Cell

Pairs = Mapping[str, Sequence[tuple[Cell, Cell]]]
"""By column, the students with their counterfactuals that its figure is the mean of."""
Found = tuple[Sample, str]
"""The sample, and the records in words."""
_REACH = critical_value(2.0 * ALPHA)
"""Standard normal deviates to the one-sided bounds that the rules use."""


def membership_sample(
    figures: StudyFigures,
    pairs: Pairs,
    scores: Mapping[str, Mapping[tuple[str, str], AttackScores]],
) -> Found | None:
    """Returns swap estimates with DeLong's covariance over records, clusters kept together.

    Args:
        figures: The study.
        pairs: The runs of each column.
        scores: What `attack_scores` returned.

    Returns:
        None where scores are missing or the runs share no records.
    """
    runs = list({one.id: one for own in pairs.values() for pair in own for one in pair}.values())
    scored = dict(scores_of(runs, scores)).get(figures.attack, []) if runs else []
    common = common_records(scored)
    if not (common and len(common[0].members) and len(common[0].nonmembers)):
        return None
    sides = [[run.members for run in common], [run.nonmembers for run in common]]
    ids = record_clusters(runs[0])
    ranks = rank_statistics(
        *(np.stack([run.to_numpy(dtype=np.float64) for run in side]) for side in sides),
        *(cluster_ids(ids, side[0].index) for side in sides),
    )
    place = {cell.id: index for index, cell in enumerate(runs)}
    swaps = np.zeros((len(pairs), len(runs)))
    for row, own in enumerate(pairs.values()):
        for cell, other in own:
            swaps[row, place[cell.id]] += 0.5 / len(own)
            swaps[row, place[other.id]] -= 0.5 / len(own)
    sample = Sample(
        columns=tuple(pairs),
        means=0.5 + swaps @ ranks.aurocs,
        covariance=swaps @ ranks.covariance @ swaps.T,
        df=np.inf,
        values=None,
    )
    return sample, f"{len(common[0].members)} + {len(common[0].nonmembers)} records"


def memorization_sample(pairs: Pairs, every: Sequence[Accuracies]) -> Found | None:
    """Returns excesses of the gap in token accuracy with their covariance over records.

    The excess is a student's accuracy less its counterfactual's, record by record; of its mean on
    private records that on held-out ones is subtracted, so that a student which is the better
    writer of both shows none. Clusters of near-duplicates lie on one side and are kept together.

    Most records do not differ at all, and a few by up to 1: the spread of those at hand then tells
    nothing of those that were missed. At an excess of 0.01, by one record in a hundred, a bound
    without a floor calls 170 records less than that in 18% of draws. So the variance of every mean
    has the floor of Wilson's interval (1927, JASA 22), (z / clusters)^2 a side, z = 1.645.

    Args:
        pairs: The runs of each column.
        every: What `read_accuracies` returned.

    Returns:
        None where accuracies are missing, or a side has fewer than two clusters.
    """
    chosen = [one for one in every if params_json(one.params) == ACCURACY_PARAMS]
    if not chosen:
        return None
    measured = {one.id for one in chosen[0].cells}
    if any(one.id not in measured for own in pairs.values() for pair in own for one in pair):
        return None
    sides = [_mean_excesses(pairs, chosen[0], population) for population in (PRIVATE, HELD_OUT)]
    known = [one for one in sides if one is not None]
    if len(known) < len(sides):
        return None
    (ours, our_covariance, n), (theirs, their_covariance, m) = known
    sample = Sample(tuple(pairs), ours - theirs, our_covariance + their_covariance, np.inf, None)
    return sample, f"{n} + {m} records"


def _mean_excesses(
    pairs: Pairs, accuracies: Accuracies, population: str
) -> tuple[FloatArray, FloatArray, int] | None:
    """Returns mean excesses [K], their covariance [K, K], and how many records they are over.

    The covariance has the floor on its diagonal.
    """
    excess = pd.concat(
        [
            pd.concat(
                [accuracies.excess(*pair, population) for pair in own], axis=1, join="inner"
            ).mean(axis=1)
            for own in pairs.values()
        ],
        axis=1,
        join="inner",
    )
    if not len(excess):
        return None
    ids = accuracies.cluster_ids(next(iter(pairs.values()))[0], excess.index)
    values = excess.to_numpy(dtype=np.float64)  # [n, K]
    means = values.mean(axis=0)
    units = np.arange(len(excess)) if ids is None else np.unique(ids, return_inverse=True)[1]
    totals = np.zeros((int(units.max()) + 1, len(means)))
    np.add.at(totals, units, values - means)
    count = len(totals)
    if count < 2:
        return None
    covariance = count / (count - 1) * totals.T @ totals / len(excess) ** 2
    return means, covariance + (_REACH / count) ** 2 * np.eye(len(means)), len(excess)
