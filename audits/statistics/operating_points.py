"""TPR at a low FPR and balanced accuracy: figures that need a threshold on the score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from audits.statistics.certified import Sides, certified_bounds
from audits.statistics.estimates import (
    Estimate,
    FloatArray,
    IntArray,
    as_clusters,
    as_scores,
    tail_probability,
)
from audits.statistics.proportions import clopper_pearson, effective_size, wilson

_BOOTSTRAP_EXPECTED = 10.0
_ROUNDING = 1e-9


@dataclass(frozen=True)
class TprEstimate(Estimate):
    """TPR at an FPR, how it was measured, and the operating point that was realised.

    Attributes:
        kind: `bootstrap` where at least ten non-members are expected above the threshold: `lower`
            and `upper` are the interval of the TPR at `fpr`. `operating_point` below that: `lower`
            is the certified lower bound of the TPR at `fpr`, `upper` its mirror.
            `not_measurable` where `fpr` is below 1 / n_nonmembers: every figure is NaN.
        fpr: The FPR asked for.
        threshold: A record is called a member where its score is strictly above this.
        realised_fpr: Share of the non-members above the threshold, at most `fpr`.
        fpr_lower: Clopper-Pearson lower end for the FPR of this threshold.
        fpr_upper: Its upper end.
        tpr_lower: Clopper-Pearson lower end for the TPR of this threshold. Each of the two
            intervals leaves out (1 - level)/2, so that both hold together at `level`.
        tpr_upper: Its upper end.
    """

    kind: Literal["bootstrap", "operating_point", "not_measurable"]
    fpr: float
    threshold: float
    realised_fpr: float
    fpr_lower: float
    fpr_upper: float
    tpr_lower: float
    tpr_upper: float


def tpr_at_fpr(
    members: ArrayLike,
    nonmembers: ArrayLike,
    fpr: float,
    level: float = 0.95,
    *,
    member_clusters: ArrayLike | None = None,
    nonmember_clusters: ArrayLike | None = None,
    n_draws: int = 2000,
    seed: int | Sequence[int] | np.random.Generator = 0,
) -> TprEstimate:
    """True positive rate at the lowest threshold whose false positive rate is at most `fpr`.

    A record is called a member where its score is strictly above the (k + 1)-th largest
    non-member score, k = floor(fpr * m): non-members that tie with the threshold are never let
    in, so the realised FPR is at most `fpr`. The TPR so found is the largest on the sample's ROC
    curve up to `fpr`.

    fpr * m >= 10: smoothed stratified bootstrap in which each draw has a threshold of its own
    (`_bootstrap_interval`). Below: an operating point with a certified bound
    (`certified.certified_bounds`). Below 1/m: not measurable. With clusters every count is scaled
    to the effective number of independent records (`proportions.effective_size`).

    Args:
        members: [n] scores, higher = more likely a member.
        nonmembers: [m] scores.
        fpr: The false positive rate, strictly between 0 and 1.
        level: Confidence level.
        member_clusters: [n] integer ids, or None for independent records.
        nonmember_clusters: [m] integer ids, or None.
        n_draws: Bootstrap draws.
        seed: Key of the bootstrap, anything that `numpy.random.default_rng` takes.

    Returns:
        TPR in [0, 1], or NaN where it is not measurable.

    Raises:
        ValueError: Empty scores, NaN, ids that do not match, or `fpr` or `level` outside (0, 1).
    """
    tail = tail_probability(level)
    if not 0.0 < fpr < 1.0:
        raise ValueError(f"fpr: expected a number strictly between 0 and 1, found {fpr}")
    x, y = as_scores(members, "members"), as_scores(nonmembers, "nonmembers")
    x_clusters = as_clusters(member_clusters, x.size, "member_clusters")
    y_clusters = as_clusters(nonmember_clusters, y.size, "nonmember_clusters")
    allowed = int(fpr * y.size + _ROUNDING)
    if allowed < 1:
        nan = float("nan")
        return TprEstimate(
            nan, nan, nan, x.size, y.size, "not_measurable", fpr, nan, nan, nan, nan, nan, nan
        )
    descending = np.sort(y)[::-1]
    threshold = float(descending[allowed])
    n_effective = effective_size(x > threshold, x_clusters)
    m_effective = effective_size(y > threshold, y_clusters)
    sides = Sides(np.sort(x), descending, n_effective, m_effective)
    if fpr * m_effective + _ROUNDING >= _BOOTSTRAP_EXPECTED:
        lower, upper = _bootstrap_interval(sides, fpr, tail, n_draws, np.random.default_rng(seed))
        kind: Literal["bootstrap", "operating_point"] = "bootstrap"
    else:
        lower, upper = certified_bounds(sides, fpr, tail)
        kind = "operating_point"
    tpr, realised = float(np.mean(x > threshold)), float(np.mean(y > threshold))
    fpr_ends = clopper_pearson(realised * m_effective, m_effective, tail / 2.0)
    tpr_ends = clopper_pearson(tpr * n_effective, n_effective, tail / 2.0)
    return TprEstimate(
        tpr, lower, upper, x.size, y.size, kind, fpr, threshold, realised, *fpr_ends, *tpr_ends
    )


def _bootstrap_interval(
    sides: Sides, fpr: float, tail: float, n_draws: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Percentile interval of the TPR at `fpr`, the threshold drawn anew each time.

    The number J of non-members above the population's threshold is Binomial(m, fpr) whatever
    their distribution. A draw takes J, sets the threshold at the (J + 1)-th largest non-member and
    draws the TPR there from Beta(c + 1/2, n - c + 1/2), c the members above it. To first order
    this is the stratified bootstrap (whose threshold's rank is m * Beta(k + 1, m - k), and which
    draws Binomial(n, c/n)), but it is centred on `fpr` where resampling repeats the sample's own
    bias of 1/m, and it does not collapse where c is 0 or n. No draw touches the scores again.
    """
    m, n = sides.nonmembers.size, sides.members.size
    draws = rng.binomial(round(sides.m_effective), fpr, n_draws) / round(sides.m_effective)
    ranks = np.minimum((draws * m + _ROUNDING).astype(np.int64), m - 1)
    hits = sides.members_above(sides.nonmembers[ranks]) * (sides.n_effective / n)
    rates = rng.beta(hits + 0.5, sides.n_effective - hits + 0.5)
    lower, upper = np.quantile(rates, [tail / 2.0, 1.0 - tail / 2.0])
    return float(lower), float(upper)


def balanced_accuracy(
    members: ArrayLike,
    nonmembers: ArrayLike,
    level: float = 0.95,
    *,
    member_clusters: ArrayLike | None = None,
    nonmember_clusters: ArrayLike | None = None,
    seed: int | Sequence[int] | np.random.Generator = 0,
) -> Estimate:
    """Mean of TPR and TNR at the threshold that was best on a disjoint half of the records.

    Half of each side (whole clusters where given) chooses the threshold, the other half is
    measured, and only the latter is counted in the estimate. The interval is conditional on the
    threshold: the Wilson intervals of the two rates, combined by squaring and adding (Newcombe
    1998, Statistics in Medicine 17, method 10).

    Args:
        members: [n] scores, n >= 2, higher = more likely a member.
        nonmembers: [m] scores, m >= 2.
        level: Confidence level.
        member_clusters: [n] integer ids, or None for independent records.
        nonmember_clusters: [m] integer ids; the same id on both sides goes to the same half.
        seed: Key of the halves, anything that `numpy.random.default_rng` takes.

    Returns:
        Balanced accuracy in [0, 1], 1/2 at chance.

    Raises:
        ValueError: Fewer than two records or clusters on a side, or as for `tpr_at_fpr`.
    """
    tail = tail_probability(level)
    x, y = as_scores(members, "members"), as_scores(nonmembers, "nonmembers")
    x_ids = as_clusters(member_clusters, x.size, "member_clusters")
    y_ids = as_clusters(nonmember_clusters, y.size, "nonmember_clusters")
    x_half, y_half = _halves(x.size, y.size, x_ids, y_ids, np.random.default_rng(seed))
    threshold = _best_threshold(x[x_half], y[y_half])
    caught, spared = x[~x_half] > threshold, y[~y_half] <= threshold
    rates, below, above = [], 0.0, 0.0
    for hits, ids, half in ((caught, x_ids, x_half), (spared, y_ids, y_half)):
        rate = float(np.mean(hits))
        trials = effective_size(hits, None if ids is None else ids[~half])
        lower, upper = wilson(rate, trials, tail)
        rates.append(rate)
        below, above = below + (rate - lower) ** 2, above + (upper - rate) ** 2
    value = sum(rates) / 2.0
    return Estimate(value, value - below**0.5 / 2, value + above**0.5 / 2, caught.size, spared.size)


def _halves(
    n: int,
    m: int,
    member_ids: IntArray | None,
    nonmember_ids: IntArray | None,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Masks [n] and [m] of the records that choose the threshold."""
    if (member_ids is None) != (nonmember_ids is None):
        raise ValueError("clusters: give ids for members and non-members, or for neither")
    if member_ids is None or nonmember_ids is None:
        sides = [rng.permutation(size) < size // 2 for size in (n, m)]
    else:
        ids = np.unique(np.concatenate([member_ids, nonmember_ids]))
        chosen = rng.permutation(ids.size) < ids.size // 2
        sides = [chosen[np.searchsorted(ids, side)] for side in (member_ids, nonmember_ids)]
    for side, name in zip(sides, ("members", "nonmembers"), strict=True):
        if not 0 < int(side.sum()) < side.size:
            raise ValueError(f"{name}: too few records or clusters to choose a threshold apart")
    return sides[0], sides[1]


def _best_threshold(members: FloatArray, nonmembers: FloatArray) -> float:
    """The lowest of the thresholds (strictly above) with the largest TPR - FPR."""
    candidates = np.unique(np.concatenate([members, nonmembers, [-np.inf]]))
    above = [
        1.0 - np.searchsorted(np.sort(side), candidates, side="right") / side.size
        for side in (members, nonmembers)
    ]
    return float(candidates[np.argmax(above[0] - above[1])])
