"""What must be known of two record sets before an attack on them is read: shift and balance."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np

from audits.rows import ResultRow, bounds
from audits.scoring.blind_baseline import BlindOptions, BlindSide, BlindVerdict, blind_baseline
from audits.statistics import Estimate, auroc
from audits.statistics.clusters import critical_value
from audits.statistics.estimates import Clusters
from audits.statistics.multiplicity import labellings
from audits.statistics.proportions import effective_size, wilson
from common.keys import numpy_generator

DEALT_BY_COINS = "dealt_by_coins"
"""Metric of the row that says whether fair coins dealt a population and its non-members: 1 or 0."""

SHIFTED = "SHIFTED DATA"
"""Begins what is said of two sides that their texts tell apart, and that no coin dealt."""

_BALANCE = "balance"
_TAIL = 0.05


@dataclass(frozen=True)
class ShiftTest:
    """The blind baseline of a population against its non-members, and how alike they are.

    Attributes:
        population: The members' population.
        verdict: The blind baseline's.
        rows: Rows of the results table, without identity columns.
        dealt_by_coins: Whether fair coins dealt the sides; what their texts tell is then luck.
    """

    population: str
    verdict: BlindVerdict
    rows: tuple[ResultRow, ...]
    dealt_by_coins: bool = False

    @staticmethod
    def of(
        population: str,
        members: BlindSide,
        nonmembers: BlindSide,
        options: BlindOptions,
        skipped: int = 0,
        dealt_by_coins: bool = False,
    ) -> "ShiftTest":
        """Measures everything; the same for the same records in any order.

        Args:
            population: The members' population.
            members: Its records that can be scored.
            nonmembers: The records opposed to them.
            options: How shift is measured and judged.
            skipped: Records of both sides that cannot be scored.
            dealt_by_coins: Whether fair coins dealt the sides.
        """
        verdict = blind_baseline(members, nonmembers, options)
        rows = [*_blind_rows(verdict, options), *_balance_rows(members, nonmembers, options)]
        together = tuple(
            replace(row, population=population, skipped=skipped, shifted=verdict.shifted)
            for row in rows
        )
        return ShiftTest(population, verdict, together, dealt_by_coins)

    @property
    def curves(self) -> dict[str, float]:
        """AUROC of the texts alone by TensorBoard tag; none where it was not measured."""
        area = self.verdict.auroc
        return {} if math.isnan(area) else {f"membership/{self.population}/blind/auroc": area}

    @property
    def alarming(self) -> bool:
        """Whether attacks measure the records: the texts differ, and not by the luck of coins."""
        return bool(self.verdict.shifted) and not self.dealt_by_coins

    @property
    def message(self) -> str | None:
        """What a reader must know first; None where nothing is wrong."""
        found = self.verdict
        counts = f"n = {found.n_members} + {found.n_nonmembers}"
        who = "members" if self.population == "external" else f"{self.population} records"
        told = (
            f"a classifier that sees only the text tells {who} from non-members "
            f"(AUROC {found.auroc:.3f}, p = {found.p_value:.3g}, {counts})"
        )
        if self.dealt_by_coins:
            luck = f"{told}; fair coins dealt them, so that this is luck and counted as such"
            return luck if found.shifted else None
        if found.shifted:
            return f"{SHIFTED}: {told}; attacks on them measure the records, not the model"
        if found.shifted is None:
            return (
                f"{who} and non-members are not shown to be of one distribution "
                f"({counts}); about {found.needed} records a side would show it"
            )
        return None


def gravest_shift(verdicts: Iterable[bool | None]) -> bool | None:
    """Returns what a population's own rows say of a shift where it is set against several others.

    Args:
        verdicts: Of the pairs that it is part of, `BlindVerdict.shifted`; none where nothing was
            judged.

    Returns:
        True where one pair differs, False where none does, None where that is not shown.

    >>> gravest_shift([False, None, True]), gravest_shift([False, None]), gravest_shift([False])
    (True, None, False)
    """
    found = list(verdicts)
    if True in found:
        return True
    return False if found and None not in found else None


def coins_row(population: str, dealt_by_coins: bool) -> ResultRow:
    """Returns the row of the results table that says whether fair coins dealt the sides.

    Args:
        population: The members' population.
        dealt_by_coins: What the data module says of it.
    """
    return ResultRow(
        population=population, name=_BALANCE, metric=DEALT_BY_COINS, value=float(dealt_by_coins)
    )


def _blind_rows(verdict: BlindVerdict, options: BlindOptions) -> list[ResultRow]:
    """AUROC with its 95% interval, the one-sided bound that decides, and the records needed."""
    measured = not math.isnan(verdict.auroc)
    half = critical_value(_TAIL) * verdict.standard_error
    row = partial(
        ResultRow,
        name="blind",
        params=asdict(options),
        n_members=verdict.n_members,
        n_nonmembers=verdict.n_nonmembers,
    )
    return [
        row(
            metric="auroc",
            value=verdict.auroc if measured else None,
            lower=max(0.0, verdict.auroc - half) if measured else None,
            upper=min(1.0, verdict.auroc + half) if measured else None,
            p_value=verdict.p_value if measured else None,
        ),
        row(metric="upper_bound", value=verdict.upper_bound if measured else None),
        row(metric="records_needed", value=float(verdict.needed)),
    ]


def _balance_rows(
    members: BlindSide, nonmembers: BlindSide, options: BlindOptions
) -> list[ResultRow]:
    """Share of members with a near-duplicate among non-members, and how lengths and tasks differ.

    Lengths: the AUROC of the number of characters, 0.5 where they are alike. Tasks: total variation
    between the two distributions of tasks, in [0, 1], with its p-value under permuted labels; it is
    above 0 by chance alone, hence no interval.
    """
    sides = (members, nonmembers)
    if min(len(side.records) for side in sides) < 2:
        return []
    row = partial(
        ResultRow,
        name=_BALANCE,
        n_members=len(members.records),
        n_nonmembers=len(nonmembers.records),
    )
    shared = np.isin(members.clusters, nonmembers.clusters)
    share = float(shared.mean())
    trials = effective_size(shared, members.clusters)
    lower, upper = wilson(share, trials, _TAIL)
    found = [row(metric="near_duplicates", value=share, lower=lower, upper=upper)]
    lengths = {
        "prompt_length_auroc": [
            [float(len(one.instruction) + len(one.context)) for one in side.records]
            for side in sides
        ],
        "response_length_auroc": [
            [float(len(one.response)) for one in side.records] for side in sides
        ],
    }
    clusters = Clusters(member_clusters=members.clusters, nonmember_clusters=nonmembers.clusters)
    for metric, (ours, theirs) in lengths.items():
        estimate: Estimate = auroc(ours, theirs, **clusters)
        found.append(row(metric=metric, **bounds(estimate)))
    distance, p_value = _task_distance(members, nonmembers, options)
    return [*found, row(metric="task_distance", value=distance, p_value=p_value)]


def _task_distance(
    members: BlindSide, nonmembers: BlindSide, options: BlindOptions
) -> tuple[float, float]:
    """Total variation between the sides' distributions of tasks, with its p-value."""
    sides = (members.ordered(), nonmembers.ordered())
    names, tasks = np.unique(
        [record.task for side in sides for record in side.records], return_inverse=True
    )
    inside = np.arange(tasks.size) < len(members.records)
    clusters = np.concatenate([side.clusters for side in sides])
    rng = numpy_generator(options.seed, "task permutations")
    labels = labellings(inside, clusters, options.permutations, rng)
    counts = np.stack(
        [np.bincount(tasks, weights=one, minlength=names.size) for one in labels], axis=1
    )  # [T, 1 + P]
    totals = np.bincount(tasks)[:, None]
    ours = counts / counts.sum(axis=0)
    theirs = (totals - counts) / (tasks.size - counts.sum(axis=0))
    distances = 0.5 * np.abs(ours - theirs).sum(axis=0)
    reached = distances >= distances[0] - 1e-12
    return float(distances[0]), float(reached.mean())
