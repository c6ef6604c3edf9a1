"""Do AUROCs differ over blocks, and does any block tell members at all?

A block's AUROC says how well an attacker does who reads or disturbs that block. Max - min over
blocks is above 0 by chance alone, the more so the more blocks there are, so it is never shown
without its interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from audits.statistics.delong import placements, rank_statistics
from audits.statistics.estimates import FloatArray, IntArray
from audits.statistics.multiplicity import permuted_labels

_PERMUTATIONS = 1999
_BLOCK_PERMUTATIONS = 499
_BOOTSTRAPS = 1000
# Draws are few, so that few ways of drawing them again say what there is to say.
_DRAW_BOOTSTRAPS = 50


@dataclass(frozen=True)
class Spread:
    """How far the AUROCs of L blocks lie apart.

    Attributes:
        value: Largest minus smallest.
        corrected: The same less its bootstrap bias, at least 0.
        lower: Lower end of a simultaneous 95% interval of the largest minus the smallest.
        upper: Upper end.
        p_value: Share of permutations of blocks within records that lie at least as far apart.
        wald: Wald statistic of "all blocks have the same AUROC", chi-squared under it.
        wald_p_value: Its p-value.
    """

    value: float
    corrected: float
    lower: float
    upper: float
    p_value: float
    wald: float
    wald_p_value: float


def block_p_values(
    members: FloatArray,
    nonmembers: FloatArray,
    member_clusters: IntArray,
    nonmember_clusters: IntArray,
    *,
    directed: bool,
    seed: int | Sequence[int] = 0,
) -> FloatArray:
    """P-values of "this block's numbers have nothing to do with membership", uncorrected.

    Labels of clusters are permuted; random draws that all records share stay as they are, for
    records that the training did not tell apart are exchangeable given any draw.

    Args:
        members: [L, n] numbers of the members at each block.
        nonmembers: [L, m].
        member_clusters: [n] ids.
        nonmember_clusters: [m] ids.
        directed: Whether only an AUROC above 0.5 counts; otherwise one as far from it on either
            side.
        seed: Key of the permutations.

    Returns:
        [L], at least 1 / 2000.
    """
    n, m = members.shape[1], nonmembers.shape[1]
    ranks = stats.rankdata(np.concatenate([members, nonmembers], axis=1), axis=1)
    labels = permuted_labels(
        np.arange(n + m) < n,
        np.concatenate([member_clusters, nonmember_clusters]),
        _PERMUTATIONS,
        np.random.default_rng(seed),
    )
    inside = labels.sum(axis=0)  # [1 + P]
    aurocs = (ranks @ labels - inside * (inside + 1) / 2.0) / (inside * (n + m - inside))
    reached = aurocs if directed else np.abs(aurocs - 0.5)
    # Rounding must not part the observed labelling from one that is the same.
    return np.asarray((reached >= reached[:, :1] - 1e-12).mean(axis=1))


def spread_over_blocks(
    members: FloatArray,
    nonmembers: FloatArray,
    member_clusters: IntArray,
    nonmember_clusters: IntArray,
    level: float = 0.95,
    *,
    seed: int | Sequence[int] = 0,
) -> Spread:
    """Measures and tests how far the AUROCs of blocks lie apart.

    The interval takes the bootstrap quantile q of the range over blocks of (resampled minus
    observed AUROC): no difference of two blocks errs by more than q with that probability, so that
    max - min lies within q of the observed one, whichever blocks it is of. The bootstrap draws
    clusters of each side anew, and draws where there are several.

    The permutation test exchanges blocks within a record, after ranks within each block: it tests
    that blocks are exchangeable, which is more than equal AUROCs. The Wald test is of equal AUROCs
    alone, with DeLong's covariance over blocks (Obuchowski's for clusters) plus the jackknife
    covariance over draws; with few draws it rejects too often.

    Args:
        members: [n, L, K] numbers under each of K shared draws; K = 1 for numbers without draws.
        nonmembers: [m, L, K].
        member_clusters: [n] ids.
        nonmember_clusters: [m] ids.
        level: Level of the interval.
        seed: Key of bootstraps and permutations.
    """
    x, y = members.mean(axis=2).T, nonmembers.mean(axis=2).T  # [L, n], [L, m]
    observed = np.array([placements(a, b).mean() for a, b in zip(x, y, strict=True)])
    rng = np.random.default_rng(seed)
    resampled = _bootstrap(members, nonmembers, member_clusters, nonmember_clusters, rng)
    value = float(np.ptp(observed))
    reach = float(np.quantile(np.ptp(resampled - observed, axis=1), level))
    bias = float(np.ptp(resampled, axis=1).mean()) - value
    wald, wald_p = _wald(members, nonmembers, member_clusters, nonmember_clusters)
    return Spread(
        value=value,
        corrected=max(0.0, value - bias),
        lower=max(0.0, value - reach),
        upper=min(1.0, value + reach),
        p_value=_block_permutation(x, y, member_clusters, nonmember_clusters, rng),
        wald=wald,
        wald_p_value=wald_p,
    )


def _bootstrap(
    members: FloatArray,
    nonmembers: FloatArray,
    member_clusters: IntArray,
    nonmember_clusters: IntArray,
    rng: np.random.Generator,
) -> FloatArray:
    """Returns the blocks' AUROCs on resampled records and draws, [P, L]."""
    n_draws = members.shape[2]
    rounds = 1 if n_draws == 1 else _DRAW_BOOTSTRAPS
    found = []
    for _ in range(rounds):
        drawn = rng.integers(n_draws, size=n_draws)
        x, y = (side[:, :, drawn].mean(axis=2).T for side in (members, nonmembers))
        ours = _cluster_weights(member_clusters, _BOOTSTRAPS // rounds, rng)
        theirs = _cluster_weights(nonmember_clusters, _BOOTSTRAPS // rounds, rng)
        pairs = ours.sum(axis=0) * theirs.sum(axis=0)
        wins = [_weighted_wins(a, b, ours, theirs) for a, b in zip(x, y, strict=True)]
        found.append((np.stack(wins) / pairs).T)
    return np.concatenate(found)


def _cluster_weights(clusters: IntArray, n: int, rng: np.random.Generator) -> FloatArray:
    """Returns how often each record is in each of n resamples of whole clusters, [R, n]."""
    _, index = np.unique(clusters, return_inverse=True)
    count = int(index.max()) + 1
    times = rng.multinomial(count, np.full(count, 1.0 / count), size=n)
    return np.asarray(times[:, index].T, dtype=np.float64)


def _weighted_wins(
    x: FloatArray, y: FloatArray, ours: FloatArray, theirs: FloatArray
) -> FloatArray:
    """Returns the weighted number of pairs in which a member is above, ties one half, [P].

    Args:
        x: [n] members' numbers.
        y: [m] non-members'.
        ours: [n, P] weights.
        theirs: [m, P] weights.
    """
    order = np.argsort(y, kind="stable")
    below = np.vstack([np.zeros((1, theirs.shape[1])), np.cumsum(theirs[order], axis=0)])
    left, right = (np.searchsorted(y[order], x, side=side) for side in ("left", "right"))
    return np.asarray((ours * (below[left] + below[right]) / 2.0).sum(axis=0))


def _block_permutation(
    x: FloatArray,
    y: FloatArray,
    member_clusters: IntArray,
    nonmember_clusters: IntArray,
    rng: np.random.Generator,
) -> float:
    n, m = x.shape[1], y.shape[1]
    ranks = stats.rankdata(np.concatenate([x, y], axis=1), axis=1).T  # [N, L]
    signs = np.concatenate([np.full(n, 1.0 / n), np.full(m, -1.0 / m)])
    both = np.concatenate([member_clusters, nonmember_clusters])
    _, index = np.unique(both, return_inverse=True)
    shape = (int(index.max()) + 1, ranks.shape[1])
    observed = float(np.ptp(signs @ ranks))
    reached = 1
    for _ in range(_BLOCK_PERMUTATIONS):
        exchanged = rng.random(shape).argsort(axis=1)[index]
        permuted = signs @ np.take_along_axis(ranks, exchanged, axis=1)
        reached += bool(np.ptp(permuted) >= observed - 1e-9)
    return reached / (1 + _BLOCK_PERMUTATIONS)


def _wald(
    members: FloatArray,
    nonmembers: FloatArray,
    member_clusters: IntArray,
    nonmember_clusters: IntArray,
) -> tuple[float, float]:
    x, y = members.mean(axis=2).T, nonmembers.mean(axis=2).T
    found = rank_statistics(x, y, member_clusters, nonmember_clusters)
    return wald_test(found.aurocs, found.covariance + _draw_covariance(members, nonmembers))


def wald_test(means: FloatArray, covariance: FloatArray) -> tuple[float, float]:
    """Tests that K means are equal, on the contrasts with the last; returns statistic and p-value.

    Args:
        means: [K] estimates.
        covariance: [K, K] of them; means that agree in every record leave nothing to be tested.
    """
    contrasts = np.eye(len(means))[:-1] - np.eye(len(means))[-1]
    differences = contrasts @ means
    spread = contrasts @ covariance @ contrasts.T
    degrees = int(np.linalg.matrix_rank(spread, hermitian=True))
    if degrees == 0:
        return 0.0, 1.0
    statistic = float(differences @ np.linalg.pinv(spread, hermitian=True) @ differences)
    return statistic, float(stats.chi2.sf(statistic, degrees))


def _draw_covariance(members: FloatArray, nonmembers: FloatArray) -> FloatArray:
    """Jackknife covariance of the blocks' AUROCs over draws, [L, L]; 0 for a single draw."""
    k = members.shape[2]
    if k == 1:
        return np.zeros((members.shape[1], members.shape[1]))
    without = np.stack(
        [
            [placements(a, b).mean() for a, b in zip(x.T, y.T, strict=True)]
            for x, y in (
                (
                    np.delete(members, draw, axis=2).mean(axis=2),
                    np.delete(nonmembers, draw, axis=2).mean(axis=2),
                )
                for draw in range(k)
            )
        ]
    )
    centred = without - without.mean(axis=0)
    return np.asarray((k - 1) / k * centred.T @ centred)
