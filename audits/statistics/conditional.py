"""A student's accuracy where its teacher is accurate, and what of it the private records added."""

from dataclasses import dataclass

from audits.statistics.estimates import FloatArray, IntArray, as_clusters, as_scores
from audits.statistics.means import UtilityEstimate, gap, share_interval

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

    def mean_above(self, tau: float, low: float) -> UtilityEstimate | None:
        """Returns the mean over the records strictly above the cut; None where there are none.

        Args:
            tau: The cut.
            low: Lower end of the values' range, whose upper end is 1.
        """
        above = self.teacher > tau
        if not above.any():
            return None
        clusters = None if self.clusters is None else self.clusters[above].tolist()
        return share_interval(self.values[above], clusters, low=low)


def conditional_mean(records: TaughtRecords, tau: float) -> AboveCut:
    """Mean over records with the teacher strictly above tau.

    The published curve. It rises with tau for any model, taught or not, because what a teacher gets
    right is easy: draw it beside models and records that cannot have
    inherited anything. Interval: `share_interval` over clusters.

    Args:
        records: One population.
        tau: The cut.

    Returns:
        The mean; `n_members` is the number of records above the cut.
    """
    mean = records.mean_above(tau, low=0.0)
    if mean is None:
        return AboveCut(None, None, None)
    return AboveCut(mean.value, mean.lower, mean.upper, mean.n)


def difference_in_differences(private: TaughtRecords, never: TaughtRecords, tau: float) -> AboveCut:
    """Accuracy that a student owes to the private records, the teacher above tau on all of them.

    DiD(tau) = mean[student - counterfactual student | private, T > tau] - mean[the same | never
    seen, T > tau]. The second term is what the two students differ by for any
    other reason on records that are as easy. Interval: those of the two means, each of numbers in
    [-1, 1], combined by `gap`. A side where no record differs yet keeps the width that its number
    of records leaves: a jump on one record in twenty is missed by twenty of them more than once in
    three.

    Args:
        private: Student minus counterfactual student on private records.
        never: The same on records that no run trains on.
        tau: The cut.

    Returns:
        The difference and both counts; no value where a side is empty, no interval where one has
        a single cluster.
    """
    ours, theirs = (side.mean_above(tau, low=-1.0) for side in (private, never))
    n_private, n_never = (0 if side is None else side.n for side in (ours, theirs))
    if ours is None or theirs is None:
        return AboveCut(None, None, None, n_private, n_never)
    both = gap(ours, theirs)
    return AboveCut(both.value, both.lower, both.upper, n_private, n_never)
