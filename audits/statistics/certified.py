"""Bounds of a TPR at a low FPR that hold whatever the distributions of the scores are."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from audits.statistics.estimates import (
    Estimate,
    FloatArray,
    IntArray,
    as_clusters,
    as_scores,
)
from audits.statistics.proportions import clopper_pearson, fewest_independent

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Sides:
    """Sorted scores of both sides and what they are worth in independent records."""

    members: FloatArray  # [n] ascending
    nonmembers: FloatArray  # [m] descending
    n_effective: float
    m_effective: float

    def members_above(self, threshold: float | FloatArray) -> IntArray:
        """Members strictly above a threshold (or each of several)."""
        below = np.searchsorted(self.members, threshold, side="right")
        return np.asarray(self.members.size - below, dtype=np.int64)

    def members_from(self, threshold: float) -> int:
        """Members at or above a threshold."""
        return int(self.members.size - np.searchsorted(self.members, threshold, side="left"))


def certified_tpr(
    members: ArrayLike,
    nonmembers: ArrayLike,
    fpr: float,
    *,
    member_clusters: ArrayLike | None = None,
    nonmember_clusters: ArrayLike | None = None,
    lower_tail: float = 0.025,
    upper_tail: float = 0.05,
) -> Estimate:
    """Certified bounds of the TPR at `fpr`, for any number of records (`certified_bounds`).

    The defaults are the levels of a verdict: a leak is looked for in the AUROC and in the tail, so
    that each is given half of 5%; to be called clean both must be, so that each is given all of it.

    Clusters count as one record each: exactly that for clusters of one size whose records score
    alike, and more cautious the less alike they are.

    Args:
        members: [n] scores, higher = more likely a member.
        nonmembers: [m] scores.
        fpr: The false positive rate, strictly between 0 and 1.
        member_clusters: [n] integer ids, or None for independent records.
        nonmember_clusters: [m] integer ids, or None.
        lower_tail: Most probability that the lower bound lies above the TPR.
        upper_tail: Most probability that the upper bound lies below it.

    Returns:
        `value` is the share of members above the (floor(fpr * m) + 1)-th largest non-member, with
        its bounds, all in [0, 1]. A bound that so few records cannot give is 0 or 1.

    Raises:
        ValueError: Empty scores, NaN, ids that do not match, or a probability outside (0, 1).
    """
    for name, share in (("fpr", fpr), ("lower_tail", lower_tail), ("upper_tail", upper_tail)):
        if not 0.0 < share < 1.0:
            raise ValueError(f"{name}: expected a number strictly between 0 and 1, found {share}")
    x, y = as_scores(members, "members"), as_scores(nonmembers, "nonmembers")
    sides = Sides(
        np.sort(x),
        np.sort(y)[::-1],
        fewest_independent(x.size, as_clusters(member_clusters, x.size, "member_clusters")),
        fewest_independent(y.size, as_clusters(nonmember_clusters, y.size, "nonmember_clusters")),
    )
    threshold = float(sides.nonmembers[int(fpr * y.size)])
    lower = certified_bounds(sides, fpr, lower_tail)[0]
    upper = certified_bounds(sides, fpr, upper_tail)[1]
    return Estimate(float(np.mean(x > threshold)), lower, upper, x.size, y.size)


def certified_bounds(sides: Sides, fpr: float, tail: float) -> tuple[float, float]:
    """Bounds of the TPR at `fpr` that hold whatever the two distributions are.

    The FPR of "strictly above the (j + 1)-th largest of m non-members" is Beta(j + 1, m - j), or
    below it where scores tie. Lower: the largest j with P(Beta <= fpr) >= 1 - tail/2, then the
    lower Clopper-Pearson end, error tail/2, of the TPR there. Upper: the smallest j with
    P(Beta >= fpr) >= 1 - tail/2, members at the threshold counted in. Each bound errs with
    probability at most `tail`; where no j qualifies it is 0 or 1. With clusters, ranks are counted
    in effective records, and the upper bound takes whole ones only: the records above a threshold
    may be parts of as many clusters as there are whole ones among them.
    """
    n, trials = sides.members.size, sides.n_effective
    safe, beyond = _ranks(sides.nonmembers.size, sides.m_effective, fpr, tail)
    lower, upper = 0.0, 1.0
    if safe is not None:
        hits = float(sides.members_above(float(sides.nonmembers[safe])))
        lower = clopper_pearson(hits / n * trials, trials, tail)[0]
    if beyond is not None:
        hits = float(sides.members_from(float(sides.nonmembers[beyond])))
        upper = clopper_pearson(hits / n * trials, trials, tail)[1]
    return lower, upper


@lru_cache(maxsize=256)
def _ranks(m: int, units: float, fpr: float, tail: float) -> tuple[int | None, int | None]:
    """The j of both bounds of `certified_bounds`; None where no j qualifies."""
    ranks = np.arange(m) * (units / m)
    whole = np.floor(ranks + _ROUNDING)
    safe = np.flatnonzero(stats.beta.cdf(fpr, ranks + 1.0, units - ranks) >= 1.0 - tail / 2.0)
    beyond = np.flatnonzero(stats.beta.sf(fpr, whole + 1.0, units - whole) >= 1.0 - tail / 2.0)
    return int(safe[-1]) if safe.size else None, int(beyond[0]) if beyond.size else None
