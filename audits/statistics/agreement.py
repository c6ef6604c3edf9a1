"""Do membership and memorization agree? Rankings of techniques, crossings, and exposed records."""

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from audits.statistics.estimates import FloatArray, as_scores
from audits.statistics.multiplicity import holm
from audits.statistics.replication import ReplicateEstimate, has_variance, replicate_mean

_MOST_HALVINGS = 500


def kendall_tau(a: ArrayLike, b: ArrayLike) -> float | None:
    """Kendall's tau-b of two rankings of the same things.

    Args:
        a: [K] values; only their order counts.
        b: [K] values.

    Returns:
        tau-b in [-1, 1]; None where one side is all ties.

    Raises:
        ValueError: Different lengths, nothing to rank, or a NaN.

    Example:
        >>> kendall_tau([1, 2, 3, 4], [1, 3, 2, 4])
        0.6666666666666666
    """
    x, y = as_scores(a, "a"), as_scores(b, "b")
    if x.size != y.size:
        raise ValueError(f"two rankings of {x.size} and {y.size} things")
    tau = float(_taus(x[None], y[None])[0])
    return None if np.isnan(tau) else tau


def _taus(a: FloatArray, b: FloatArray) -> FloatArray:
    """Kendall's tau-b of every row of two tables [H, K]: [H], NaN where one side is all ties."""
    i, j = np.triu_indices(a.shape[1], 1)
    da, db = np.sign(a[:, i] - a[:, j]), np.sign(b[:, i] - b[:, j])  # [H, pairs]
    untied = ((da**2).sum(axis=1) * (db**2).sum(axis=1)) ** 0.5
    agreed = (da * db).sum(axis=1)
    return np.divide(agreed, untied, out=np.full(len(a), np.nan), where=untied > 0.0)


@dataclass(frozen=True)
class RankingAgreement:
    """Agreement of two rankings of techniques, beside the most that noise allows.

    All three are means over the same halvings of the replicates, and each compares figures of one
    half with figures of the other. A value is None where there are no two halves, or one side of
    every comparison is all ties.

    Attributes:
        tau: Kendall's tau of membership with memorization.
        membership_ceiling: Of membership with itself.
        memorization_ceiling: Of memorization with itself.
    """

    tau: float | None
    membership_ceiling: float | None
    memorization_ceiling: float | None


def ranking_agreement(
    membership: ArrayLike, memorization: ArrayLike, seed: int = 0
) -> RankingAgreement:
    """Kendall's tau between techniques ranked by two measures, and its ceilings by split halves.

    A low tau is what noise gives: only next to the tau that each measure reaches with itself does
    it say anything. So all of them come from the same halves, where
    each mean has as much noise: membership of one half against memorization of the other, both
    ways round, beside membership against membership and memorization against memorization. With
    the same true ranking and the same noise the three have the same distribution. There is no
    interval: tau describes, crossings decide.

    Args:
        membership: [R, K], one row per replicate, one column per technique.
        memorization: [R, K].
        seed: Key of the halvings, where there are too many to take all.

    Returns:
        tau and both ceilings.

    Raises:
        ValueError: Shapes that differ, or fewer than two techniques.
    """
    x, y = _paired(membership, memorization)
    if len(x) < 2:
        return RankingAgreement(None, None, None)
    half = _halvings(len(x), np.random.default_rng(seed))
    (x_one, x_other), (y_one, y_other) = (
        (_half_means(rows, half), _half_means(rows, ~half)) for rows in (x, y)
    )
    crossed = (_taus(x_one, y_other) + _taus(x_other, y_one)) / 2.0
    table = np.stack([crossed, _taus(x_one, x_other), _taus(y_one, y_other)], axis=1)  # [H, 3]
    whole = table[~np.isnan(table).any(axis=1)]
    means = [_mean_known(column) for column in (whole if len(whole) else table).T]
    return RankingAgreement(*means)


def _half_means(rows: FloatArray, half: NDArray[np.bool_]) -> FloatArray:
    """Means [H, K] of rows [R, K] over each of H halves [H, R].

    Summed replicate by replicate, so that columns that are alike have means that are alike.
    """
    totals = np.where(half[:, :, None], rows, 0.0).sum(axis=1)
    return np.asarray(totals / half.sum(axis=1, keepdims=True))


def _halvings(r: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """All ways to halve R replicates, or many random ones, [H, R]; an odd one is in the other."""
    if comb(r, r // 2) > _MOST_HALVINGS:
        halves = np.array([rng.permutation(r)[: r // 2] for _ in range(_MOST_HALVINGS)])
    else:
        halves = np.array(list(combinations(range(r), r // 2)))
    return np.asarray((halves[:, :, None] == np.arange(r)).any(axis=1))


def _mean_known(values: FloatArray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


@dataclass(frozen=True)
class Crossing:
    """A pair of techniques: does one leak more members, and the other memorize more?

    Attributes:
        a: Column of the first technique.
        b: Column of the second.
        membership: Membership of a minus that of b, over replicates.
        memorization: Memorization of a minus that of b.
        p_value: Of "no crossing beyond the margins", adjusted over all pairs; None with fewer than
            two replicates, or where all agree on a difference, whose variance is then unknown.
    """

    a: int
    b: int
    membership: ReplicateEstimate
    memorization: ReplicateEstimate
    p_value: float | None


def crossings(
    membership: ArrayLike,
    memorization: ArrayLike,
    membership_margin: float = 0.02,
    memorization_margin: float = 0.01,
    level: float = 0.95,
) -> list[Crossing]:
    """Tests every pair of techniques for a crossing.

    A pair crosses where one technique has more membership and the other more memorization, both by
    more than the margin. Either way round it is an intersection-union test: the larger of two
    one-sided p-values of Student's t over replicates. The smaller of the two ways counts twice, and
    Holm corrects over pairs.

    Args:
        membership: [R, K], one row per replicate, one column per technique.
        memorization: [R, K].
        membership_margin: Smallest difference that counts, in AUROC.
        memorization_margin: The same in token accuracy.
        level: Level of the differences' intervals.

    Returns:
        One entry per pair, in the order of columns.

    Raises:
        ValueError: Shapes that differ, or fewer than two techniques.
    """
    x, y = _paired(membership, memorization)
    pairs = list(combinations(range(x.shape[1]), 2))
    p_values = [
        _crossing_p(x[:, a] - x[:, b], y[:, a] - y[:, b], membership_margin, memorization_margin)
        for a, b in pairs
    ]
    adjusted = holm(p_values)
    return [
        Crossing(
            a,
            b,
            replicate_mean(x[:, a] - x[:, b], level),
            replicate_mean(y[:, a] - y[:, b], level),
            float(p) if _varies(x[:, a] - x[:, b]) and _varies(y[:, a] - y[:, b]) else None,
        )
        for (a, b), p in zip(pairs, adjusted, strict=True)
    ]


def _crossing_p(x: FloatArray, y: FloatArray, x_margin: float, y_margin: float) -> float:
    """P-value of "no crossing beyond the margins"; 1 where it cannot be tested."""
    if not (_varies(x) and _varies(y)):
        return 1.0
    ways = [
        max(_beyond_p(sign * x, x_margin), _beyond_p(-sign * y, y_margin)) for sign in (1.0, -1.0)
    ]
    return min(1.0, 2.0 * min(ways))


def _beyond_p(differences: FloatArray, margin: float) -> float:
    """One-sided p-value of "the mean difference is at most the margin"."""
    mean, error = differences.mean(), differences.std(ddof=1) / len(differences) ** 0.5
    return float(stats.t.sf((mean - margin) / error, len(differences) - 1))


def _varies(differences: FloatArray) -> bool:
    """Whether there are replicates enough, and a variance between them, for a test."""
    r = len(differences)
    error = float(differences.std(ddof=1)) / r**0.5 if r > 1 else 0.0
    return has_variance(error, float(differences.mean()))


@dataclass(frozen=True)
class TopOverlap:
    """How far the most exposed records under two measures are the same.

    Attributes:
        value: Share of the top records of one that are in the top of the other, its expectation
            where ties are broken at random.
        chance: The same share if the measures had nothing to do with each other.
        n_top: Records in each top.
        n: Records.
    """

    value: float
    chance: float
    n_top: int
    n: int


def top_overlap(a: ArrayLike, b: ArrayLike, share: float) -> TopOverlap:
    """Overlap of the top records under two scores of the same records.

    Scores such as token accuracy are mostly ties: a record tied at the cut is in the top with the
    probability that a random order puts it there, independently under the two scores.

    Args:
        a: [n] scores, higher = more exposed.
        b: [n] scores.
        share: Share of records in the top; rounded up to a whole number.

    Returns:
        The expected overlap, and that of chance.

    Raises:
        ValueError: Different lengths, no score, a NaN, or a share outside (0, 1].
    """
    x, y = as_scores(a, "a"), as_scores(b, "b")
    if x.size != y.size or not 0.0 < share <= 1.0:
        raise ValueError(f"expected a share of equally many scores, found {x.size}, {y.size}")
    n_top = int(np.ceil(share * x.size - 1e-9))
    expected = float(_in_top(x, n_top) @ _in_top(y, n_top))
    return TopOverlap(expected / n_top, n_top / x.size, n_top, x.size)


def _in_top(scores: FloatArray, n_top: int) -> FloatArray:
    """Probability of each record to be among the top, ties broken at random, [n]."""
    cut = np.sort(scores)[-n_top]
    above, tied = scores > cut, scores == cut
    return above + tied * ((n_top - above.sum()) / tied.sum())


def _paired(membership: ArrayLike, memorization: ArrayLike) -> tuple[FloatArray, FloatArray]:
    x = np.asarray(membership, dtype=np.float64)
    y = np.asarray(memorization, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 2 or x.shape[1] < 2:
        raise ValueError(
            f"expected two [replicates, techniques] tables, found {x.shape} and {y.shape}"
        )
    return x, y
