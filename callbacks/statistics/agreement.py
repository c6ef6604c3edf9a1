"""Do membership and memorization agree? Rankings of techniques, crossings, and exposed records."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from callbacks.statistics.estimates import FloatArray, as_scores
from callbacks.statistics.multiplicity import holm
from callbacks.statistics.replication import ReplicateEstimate, replicate_mean


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
    upper = np.triu_indices(x.size, 1)
    dx, dy = np.sign(x[:, None] - x)[upper], np.sign(y[:, None] - y)[upper]
    untied = float((dx * dx).sum() * (dy * dy).sum())
    return float((dx * dy).sum()) / untied**0.5 if untied > 0.0 else None


@dataclass(frozen=True)
class RankingAgreement:
    """Agreement of two rankings of techniques, beside the most that noise allows.

    Attributes:
        tau: Mean over replicates of Kendall's tau between the two measures, with its interval; None
            where a replicate ties all techniques.
        membership_ceiling: Mean tau of membership with itself between halves of the replicates;
            None with one replicate.
        memorization_ceiling: The same of memorization.
    """

    tau: ReplicateEstimate | None
    membership_ceiling: float | None
    memorization_ceiling: float | None


def ranking_agreement(
    membership: ArrayLike, memorization: ArrayLike, level: float = 0.95
) -> RankingAgreement:
    """Kendall's tau between techniques ranked by two measures, and its split-half ceiling.

    A low tau is what noise gives: only next to the tau that each measure reaches with itself does
    it say anything (corrections, item 14). Interval: Student's t over replicates, kept in [-1, 1].

    Args:
        membership: [R, K], one row per replicate, one column per technique.
        memorization: [R, K].
        level: Confidence level.

    Returns:
        tau and both ceilings.

    Raises:
        ValueError: Shapes that differ, or fewer than two techniques.
    """
    x, y = _paired(membership, memorization)
    taus = [kendall_tau(row, other) for row, other in zip(x, y, strict=True)]
    known = [tau for tau in taus if tau is not None]
    tau = None
    if len(known) == len(taus):
        mean = replicate_mean(known, level)
        tau = ReplicateEstimate(
            mean.value,
            max(-1.0, mean.lower),
            min(1.0, mean.upper),
            mean.n_replicates,
            mean.standard_error,
        )
    return RankingAgreement(tau, split_half_tau(x), split_half_tau(y))


def split_half_tau(values: ArrayLike) -> float | None:
    """Mean tau between the means of two halves of the replicates, over all ways to halve them.

    Args:
        values: [R, K]; with R odd, one half has a replicate more.

    Returns:
        The mean over the halvings without a side that is all ties; None if there is none.
    """
    rows = np.asarray(values, dtype=np.float64)
    r = len(rows)
    found = []
    for half in combinations(range(r), r // 2):
        rest = [row for row in range(r) if row not in half]
        if half:
            found.append(kendall_tau(rows[list(half)].mean(axis=0), rows[rest].mean(axis=0)))
    known = [tau for tau in found if tau is not None]
    return float(np.mean(known)) if known else None


@dataclass(frozen=True)
class Crossing:
    """A pair of techniques: does one leak more members, and the other memorize more?

    Attributes:
        a: Column of the first technique.
        b: Column of the second.
        membership: Membership of a minus that of b, over replicates.
        memorization: Memorization of a minus that of b.
        p_value: Of "no crossing beyond the margins", adjusted over all pairs; None with fewer than
            two replicates.
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
    """Tests every pair of techniques for a crossing (corrections, items 13 and 14).

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
            None if np.isnan(p) else float(p),
        )
        for (a, b), p in zip(pairs, adjusted, strict=True)
    ]


def _crossing_p(x: FloatArray, y: FloatArray, x_margin: float, y_margin: float) -> float:
    if len(x) < 2:
        return float("nan")
    ways = [
        max(_beyond_p(sign * x, x_margin), _beyond_p(-sign * y, y_margin)) for sign in (1.0, -1.0)
    ]
    return min(1.0, 2.0 * min(ways))


def _beyond_p(differences: FloatArray, margin: float) -> float:
    """One-sided p-value of "the mean difference is at most the margin"."""
    mean, error = differences.mean(), differences.std(ddof=1) / len(differences) ** 0.5
    if error == 0.0:
        return 0.0 if mean > margin else 1.0
    return float(stats.t.sf((mean - margin) / error, len(differences) - 1))


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
