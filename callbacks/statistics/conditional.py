"""A student's accuracy where its teacher is accurate, and what of it the private records added."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from callbacks.statistics.estimates import (
    FloatArray,
    IntArray,
    as_clusters,
    as_scores,
    tail_probability,
)
from callbacks.utility.estimates import ratio_interval

TAUS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class AboveCut:
    """Mean of some records whose teacher is above a cut; empty sets have no mean.

    Attributes:
        value: The mean, or None without records.
        lower: Lower end of the interval, or None with fewer than two clusters.
        upper: Upper end, likewise.
        n_members: Private records above the cut.
        n_nonmembers: Never-seen records above the cut.
    """

    value: float | None
    lower: float | None
    upper: float | None
    n_members: int = 0
    n_nonmembers: int = 0


@dataclass(frozen=True)
class TaughtRecords:
    """Values of records of one population beside their teacher's accuracy.

    Attributes:
        values: [n] float64, such as a student's token accuracy, or what it has more than its
            counterfactual.
        teacher: [n] float64, the teacher's token accuracy on the same records.
        clusters: [n] ids of near-duplicate clusters, or None for independent records.
    """

    values: FloatArray
    teacher: FloatArray
    clusters: IntArray | None = None

    def __post_init__(self) -> None:
        """Checks that the columns fit together."""
        n = as_scores(self.values, "values").size
        if as_scores(self.teacher, "teacher").size != n:
            raise ValueError(f"{n} values, but {self.teacher.size} accuracies of the teacher")
        as_clusters(self.clusters, n, "clusters")

    def totals(self, tau: float) -> tuple[FloatArray, FloatArray]:
        """Returns sums and counts [G] of the clusters with a record strictly above the cut."""
        above = self.teacher > tau
        ids = np.arange(above.size) if self.clusters is None else self.clusters
        _, index = np.unique(ids[above], return_inverse=True)
        sums = np.bincount(index, self.values[above]).astype(np.float64)
        return sums, np.bincount(index).astype(np.float64)


def conditional_mean(records: TaughtRecords, tau: float, level: float = 0.95) -> AboveCut:
    """Mean over records with the teacher strictly above tau (audits.md, conditional).

    The published curve. It rises with tau for any model, taught or not, because what a teacher gets
    right is easy (corrections, item 2): draw it beside models and records that cannot have
    inherited anything. Interval: Student's t over clusters.

    Args:
        records: One population.
        tau: The cut.
        level: Confidence level.

    Returns:
        The mean; `n_members` is the number of records above the cut.
    """
    sums, counts = records.totals(tau)
    if not sums.size:
        return AboveCut(None, None, None)
    mean = ratio_interval(sums, counts, level=level)
    return AboveCut(mean.value, mean.lower, mean.upper, int(counts.sum()))


def difference_in_differences(
    private: TaughtRecords,
    never: TaughtRecords,
    tau: float,
    level: float = 0.95,
    *,
    n_draws: int = 2000,
    seed: int | Sequence[int] = 0,
) -> AboveCut:
    """Accuracy that a student owes to the private records, the teacher above tau on all of them.

    DiD(tau) = mean[student - counterfactual student | private, T > tau] - mean[the same | never
    seen, T > tau] (corrections, item 2). The second term is what the two students differ by for any
    other reason on records that are as easy. Interval: bootstrap of clusters, the two populations
    resampled apart; percentiles expanded for the number of clusters
    (Hesterberg 2015, The American Statistician 69, section 4).

    Args:
        private: Student minus counterfactual student on private records.
        never: The same on records that no run trains on.
        tau: The cut.
        level: Confidence level.
        n_draws: Bootstrap draws.
        seed: Key of the draws.

    Returns:
        The difference and both counts; no value where a side is empty.
    """
    tail = tail_probability(level)
    rng = np.random.default_rng(seed)
    sides = [private.totals(tau), never.totals(tau)]
    n_private, n_never = (int(counts.sum()) for _, counts in sides)
    if n_private == 0 or n_never == 0:
        return AboveCut(None, None, None, n_private, n_never)
    means = [float(sums.sum() / counts.sum()) for sums, counts in sides]
    ours, theirs = (_bootstrap_means(sums, counts, n_draws, rng) for sums, counts in sides)
    fewest = min(sums.size for sums, _ in sides)
    lower, upper = _bounds(ours - theirs, fewest, tail)
    return AboveCut(means[0] - means[1], lower, upper, n_private, n_never)


def _bootstrap_means(
    sums: FloatArray, counts: FloatArray, n_draws: int, rng: np.random.Generator
) -> FloatArray:
    """Means over records of resampled clusters, [n_draws]."""
    weights = rng.multinomial(sums.size, np.full(sums.size, 1.0 / sums.size), size=n_draws)
    return np.asarray((weights @ sums) / (weights @ counts))


def _bounds(draws: FloatArray, n_clusters: int, tail: float) -> tuple[float | None, float | None]:
    """Percentiles of the draws, expanded for few clusters (Hesterberg 2015, section 4)."""
    if n_clusters < 2:
        return None, None
    factor = (n_clusters / (n_clusters - 1)) ** 0.5
    wide = float(stats.norm.sf(factor * stats.t.isf(tail / 2.0, n_clusters - 1)))
    lower, upper = np.quantile(draws, [wide, 1.0 - wide])
    return float(lower), float(upper)
