"""Was this set of records trained on? What no attack shows of a record, many records show.

Dataset inference (Maini, Jia, Papernot and Dziedzic 2024, arXiv 2406.06443): one half of the
records learns how the attacks' scores are best weighed, the other is tested with these weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from audits.membership.common_records import on_common_records
from audits.membership.metrics import ScoredRecords
from audits.rows import ResultRow
from common.keys import key, numpy_generator

DATASET_INFERENCE = "dataset_inference"
"""Name of the rows."""
SET_EFFECT, SETS_DETECTED = "set_effect", "sets_detected"
"""Metrics: of all tested units together, and of sets of a size that the parameters name."""

N_PERMUTATIONS, N_SETS = 999, 100
_PERMUTATIONS_OF_A_SET = 199
_SIZES = (5, 10, 20, 50, 100, 200)
_LEVEL = 0.05
_FEWEST_UNITS = 20
"""Clusters on each side of each half; fewer teach and show nothing."""
_MOST_OTHERS = 200

Floats = NDArray[np.float64]


def dataset_inference_rows(
    members: Sequence[ScoredRecords],
    nonmembers: Sequence[ScoredRecords],
    shifted: bool | None,
    unit: Mapping[str, object] | None = None,
) -> list[ResultRow]:
    """Returns the test of "this set was not trained on", by the size of the set.

    Units are clusters of near-duplicates, scored by their records' mean. Halves are dealt by the
    clusters' names. Weights are those of linear discriminant analysis with shrinkage (Ledoit and
    Wolf 2004) of scores standardised on the learning half, signed so that their sum rises with the
    attacks; the statistic is the difference of mean weighed scores on the other half, one-sided,
    with labels exchanged between units.

    Args:
        members: Scores of the members under each of K attacks, none of which reads the coins.
        nonmembers: Scores of the non-members under each.
        shifted: Whether the texts alone tell the sides apart: the test then finds that as well.
        unit: Parameters that say what the scores are of, where they are not of records.

    Returns:
        ``set_effect``: difference of the means in standard deviations, with the p-value of all
        units of the testing half. ``sets_detected``, a row for each size: share of 100 sets, drawn
        from the testing half, whose p-value is at most 0.05, and the median p-value. The sets
        overlap, so the share has no interval. Nothing where a half is too small.
    """
    if not members:
        return []
    sides = [_unit_means(*on_common_records(side)) for side in (members, nonmembers)]
    halves = [[scores[:, _half(names) == half] for scores, names in sides] for half in (0, 1)]
    if min(scores.shape[1] for half in halves for scores in half) < _FEWEST_UNITS:
        return []
    learning, testing = halves
    inside, outside = _weighed(learning, testing)
    n, m = len(inside), len(outside)
    rng = numpy_generator("dataset inference", members[0].population)
    row = ResultRow(
        population=members[0].population,
        name=DATASET_INFERENCE,
        metric=SET_EFFECT,
        params={"attacks": len(members), "permutations": N_PERMUTATIONS, **(unit or {})},
        value=_effect(inside, outside),
        p_value=exchange_test(inside, outside, N_PERMUTATIONS, rng),
        n_members=n,
        n_nonmembers=m,
        shifted=shifted,
    )
    found = [row]
    for size in (size for size in _SIZES if size <= n):
        p_values = [
            exchange_test(
                rng.choice(inside, size, replace=False),
                rng.choice(outside, min(m, _MOST_OTHERS), replace=False),
                _PERMUTATIONS_OF_A_SET,
                rng,
            )
            for _ in range(N_SETS)
        ]
        found.append(
            replace(
                row,
                metric=SETS_DETECTED,
                params={**(unit or {}), "attacks": len(members), "set_size": size, "sets": N_SETS},
                value=float(np.mean(np.array(p_values) <= _LEVEL)),
                p_value=float(np.median(p_values)),
            )
        )
    return found


def exchange_test(
    inside: Floats, outside: Floats, permutations: int, rng: np.random.Generator
) -> float:
    """Returns the one-sided p-value of a larger mean of `inside`, with labels exchanged at random.

    Args:
        inside: [n] values of the members.
        outside: [m] values of the others.
        permutations: Random labellings beside the true one, which counts as one of them.
        rng: Draws them.
    """
    values = np.concatenate([inside, outside])
    n = len(inside)
    drawn = rng.random((permutations, len(values))).argpartition(n - 1, axis=1)[:, :n]
    sums = values[drawn].sum(axis=1)
    # Sums of the same numbers in another order differ in their last digits.
    slack = 1e-9 * np.abs(values).sum()
    return float((1 + np.count_nonzero(sums >= inside.sum() - slack)) / (1 + permutations))


def _weighed(learning: Sequence[Floats], testing: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Returns the testing half's scores, weighed as the learning half teaches: [n] and [m]."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    both = np.concatenate(learning, axis=1)
    mean, spread = both.mean(axis=1, keepdims=True), both.std(axis=1, keepdims=True)
    told = spread[:, 0] > 0.0
    labels = np.repeat([1, 0], [side.shape[1] for side in learning])

    def standardised(scores: Floats) -> Floats:
        return ((scores - mean) / np.where(spread > 0.0, spread, 1.0))[told].T

    if not told.any():
        return np.zeros(testing[0].shape[1]), np.zeros(testing[1].shape[1])
    rule = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    weighed = rule.fit(standardised(both), labels).decision_function(standardised(both))
    # Every attack scores members higher, and so shall their weighed sum, whatever the labels say:
    # records that somebody else's training met in their place are not recognised as trained on.
    unweighed = standardised(both).sum(axis=1)
    for label in (0, 1):
        unweighed[labels == label] -= unweighed[labels == label].mean()
    sign = -1.0 if unweighed @ weighed < 0.0 else 1.0
    inside, outside = (sign * rule.decision_function(standardised(side)) for side in testing)
    return inside, outside


def _effect(inside: Floats, outside: Floats) -> float:
    """Returns the difference of means in pooled standard deviations; 0 where nothing varies."""
    n, m = len(inside), len(outside)
    squares = np.square(inside - inside.mean()).sum() + np.square(outside - outside.mean()).sum()
    spread = np.sqrt(squares / (n + m - 2))
    return float((inside.mean() - outside.mean()) / spread) if spread > 0.0 else 0.0


def _unit_means(scores: Floats, clusters: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """Returns each cluster's mean scores [K, G], and the clusters' names [G]."""
    names, index = np.unique(clusters, return_inverse=True)
    sums = np.stack([np.bincount(index, weights=row, minlength=names.size) for row in scores])
    return sums / np.bincount(index), names


def _half(names: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the half of each cluster, 0 or 1, [G]."""
    halves = [key("dataset inference", int(name)) & 1 for name in names]
    return np.array(halves, dtype=np.int64)
