"""Blind baseline: can members and non-members be told apart by a reader who never saw the model?

Das, Zhang, Tramèr 2024, "Blind baselines beat membership inference attacks for foundation models"
(arXiv 2406.16201). Where the answer is yes, an attack's AUROC measures the records and not the
model. The test is one-sided, by permuting labels with refitting, because an interval on pooled
out-of-fold scores covers 0.5 in 83-85% of null splits only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audits.scoring.text_folds import TextFeatures, fold_aurocs, grouped_folds
from audits.statistics.multiplicity import permuted_labels
from common.errors import UserError
from common.keys import numpy_generator
from common.options import require_at_least
from datamodules.records import InstructionRecord

_ALPHA = 0.01
_BOUND_TAIL = 0.05
_POWER = 0.8
_FEWEST_CLUSTERS = 10


@dataclass(frozen=True)
class BlindOptions:
    """How the blind baseline is measured and judged.

    Attributes:
        permutations: Permuted labellings, 199 or more; the smallest p-value is
            1 / (permutations + 1).
        margin: AUROC above 0.5 from which a shift matters: none is excluded unless the upper bound
            lies below 0.5 + margin.
        folds: Folds of a cross-validation.
        repeats: Cross-validations, each with folds of its own.
        max_records: Most records of a side; of more, whole clusters are drawn by lot. With 1,000 a
            side the standard error is about 0.015, enough to judge by the default margin.
        seed: Of folds, permutations and lots. Not the run's: every cell of a study judges the same
            records and is to say the same.

    Raises:
        UserError: A number out of range.
    """

    permutations: int = 199
    margin: float = 0.05
    folds: int = 5
    repeats: int = 3
    max_records: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the options."""
        require_at_least(199, "blind.", permutations=self.permutations)
        require_at_least(2, "blind.", folds=self.folds)
        require_at_least(1, "blind.", repeats=self.repeats)
        require_at_least(_FEWEST_CLUSTERS, "blind.", max_records=self.max_records)
        if not 0.0 < self.margin < 0.5:
            raise UserError(f"blind.margin is {self.margin}: give a number between 0 and 0.5")


@dataclass(frozen=True)
class SplitsVerdict:
    """What the blind baselines of several splits say together; see `BlindVerdict`.

    Attributes:
        auroc: Mean over the splits.
        standard_error: Of the mean.
        p_value: One-sided.
        upper_bound: One-sided 95% upper bound.
        shifted: Whether the sides of such splits differ; None where neither answer is shown.
    """

    auroc: float
    standard_error: float
    p_value: float
    upper_bound: float
    shifted: bool | None


@dataclass(frozen=True)
class BlindVerdict(SplitsVerdict):
    """What the blind baseline found.

    Attributes:
        auroc: Mean over folds and repetitions; NaN with too few records to measure it.
        standard_error: Of the AUROC, from the permuted labellings.
        p_value: Share of labellings with an AUROC at least as high, the observed one counted.
        upper_bound: One-sided 95% upper bound, not taken below what an AUROC of 0.5 would give: no
            text is worse than a guess, so an AUROC below 0.5 is chance, or sides more alike than
            chance makes them.
        shifted: True where the sides differ (p < 0.01 and AUROC > 0.5), False where they differ by
            less than the margin (upper bound below 0.5 + margin), None where neither is shown.
        needed: Records a side from which sides of one distribution would be found not shifted with
            probability 0.8.
        n_members: Members judged.
        n_nonmembers: Non-members judged.
    """

    needed: int
    n_members: int
    n_nonmembers: int


@dataclass(frozen=True)
class BlindSide:
    """One side of an audit.

    Attributes:
        records: The records.
        clusters: [n] ids of near-duplicate clusters; an id means the same cluster on both sides.
    """

    records: Sequence[InstructionRecord]
    clusters: NDArray[np.int64]

    def ordered(self) -> "BlindSide":
        """Returns the side in an order that depends on its content alone."""
        contents = [one.content for one in self.records]
        return self._take(sorted(range(len(contents)), key=contents.__getitem__))

    def at_most(self, max_records: int, seed: int) -> "BlindSide":
        """Returns the side, or whole clusters of it drawn by lot where it has more records."""
        if len(self.records) <= max_records:
            return self
        _, index = np.unique(self.clusters, return_inverse=True)
        place = numpy_generator(seed, "blind lot").permutation(int(index.max()) + 1)[index]
        drawn = np.argsort(place, kind="stable")
        whole = np.cumsum(np.bincount(place)) <= max_records
        return self._take(sorted(drawn[whole[place[drawn]]].tolist()))

    def _take(self, rows: Sequence[int]) -> "BlindSide":
        return BlindSide([self.records[row] for row in rows], self.clusters[list(rows)])


def blind_baseline(
    members: BlindSide, nonmembers: BlindSide, options: BlindOptions | None = None
) -> BlindVerdict:
    """Judges whether members and non-members can be told apart by their text alone.

    A logistic regression on word and character n-grams, lengths and task
    (`text_folds.fold_aurocs`), cross-validated with near-duplicate clusters whole. Labels are
    permuted between clusters. The verdict does not depend on the order of the records.

    Args:
        members: The members.
        nonmembers: The non-members.
        options: See `BlindOptions`.

    Returns:
        The verdict; None with nothing measured where a side has fewer than ten clusters.
    """
    options = options or BlindOptions()
    sides = [
        side.at_most(options.max_records, options.seed).ordered() for side in (members, nonmembers)
    ]
    sizes = [len(side.records) for side in sides]
    if min(np.unique(side.clusters).size for side in sides) < _FEWEST_CLUSTERS:
        nan = float("nan")
        return BlindVerdict(nan, nan, nan, nan, None, _needed(1 / 6, options.margin), *sizes)
    records = [record for side in sides for record in side.records]
    clusters = np.concatenate([side.clusters for side in sides])
    inside = np.arange(len(records)) < sizes[0]
    rng = numpy_generator(options.seed, "blind permutations")
    labels = permuted_labels(inside, clusters, options.permutations, rng)
    assignments = grouped_folds(
        [record.task for record in records], clusters, options.folds, options.seed, options.repeats
    )
    aurocs = fold_aurocs(TextFeatures.of(records), labels, list(assignments))
    return judge(aurocs[0], aurocs[1:], (sizes[0], sizes[1]), options.margin)


def judge(
    auroc: float, permuted: NDArray[np.float64], sizes: tuple[int, int], margin: float
) -> BlindVerdict:
    """Turns the AUROC and those of the permuted labellings [P] into a verdict."""
    error = float(np.std(permuted, ddof=1))
    p_value = (1 + int(np.sum(permuted >= auroc))) / (1 + permuted.size)
    upper = _upper_bound(auroc, error)
    shifted = _shifted(auroc, p_value, upper, margin)
    a_side = 2.0 / (1.0 / sizes[0] + 1.0 / sizes[1])
    needed = _needed(error**2 * a_side, margin)
    return BlindVerdict(float(auroc), error, p_value, upper, shifted, needed, *sizes)


def judge_splits(
    aurocs: NDArray[np.float64], errors: NDArray[np.float64], margin: float
) -> SplitsVerdict:
    """Judges a source of records by several splits of it, each dealt by coins of its own.

    What tells the sides apart in one split alone is the luck of its coins, which are independent of
    the other splits'. The mean is judged as one split's AUROC is, with a normal p-value.

    Args:
        aurocs: [R] AUROC of each split.
        errors: [R] their standard errors.
        margin: As in `BlindOptions`.
    """
    auroc = float(aurocs.mean())
    error = float(np.sqrt(np.square(errors).sum()) / aurocs.size)
    p_value = float(stats.norm.sf((auroc - 0.5) / error))
    upper = _upper_bound(auroc, error)
    return SplitsVerdict(auroc, error, p_value, upper, _shifted(auroc, p_value, upper, margin))


def _upper_bound(auroc: float, error: float) -> float:
    return float(max(auroc, 0.5) + stats.norm.isf(_BOUND_TAIL) * error)


def _shifted(auroc: float, p_value: float, upper: float, margin: float) -> bool | None:
    if p_value < _ALPHA and auroc > 0.5:
        return True
    return False if upper < 0.5 + margin else None


def _needed(variance_of_one: float, margin: float) -> int:
    """Records a side at which z(0.95) + z(0.8) standard errors fit into the margin.

    Args:
        variance_of_one: Variance of the AUROC times the records of a side; 1/6 for independent
            scores without cross-validation.
        margin: The margin.
    """
    wide = float(stats.norm.isf(_BOUND_TAIL) + stats.norm.ppf(_POWER))
    return int(np.ceil(variance_of_one * (wide / margin) ** 2))
