"""What the controls say: models that never met the private records tell nothing apart."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audits.statistics import (
    Estimate,
    ReplicateEstimate,
    auroc,
    certified_tpr,
    replicate_mean,
)
from audits.statistics.verdict import (
    CLEAN_CAVEAT,
    CLEAN_MARGIN,
    CLEAN_TPR,
    RECORDS_FOR_CLEAN,
    TAIL_FPR,
    is_clean,
)
from common.prose import prose
from common.wording import interval_text
from studies.compare.comparisons import AttackScores
from studies.compare.record_clusters import record_clusters
from studies.plan.cells import Cell
from studies.report.parts import Notice
from studies.report.study_data import StudyData

_SAYS = prose(__file__)
_NEAR, _WIDE = 0.90, 0.999
Interval = tuple[float, float]


@dataclass(frozen=True)
class _Bounds:
    """What the scores of a control, or of all controls of a kind, say.

    Attributes:
        near: 90% interval of the AUROC.
        wide: 99.9% interval of the AUROC.
        tail: Certified bounds of the TPR at 1% FPR: the lower as rarely wrong as `wide`'s, the
            upper of 95%.
        counts: What the intervals are over.
    """

    near: Interval
    wide: Interval
    tail: Interval
    counts: str


@dataclass(frozen=True)
class _Control:
    """One control's scores under the primary attack.

    Attributes:
        cell: The run.
        scores: By record.
        clusters: Number of each record's near-duplicate cluster; None where they are not at hand,
            and records count as independent.
    """

    cell: Cell
    scores: AttackScores
    clusters: Mapping[str, int] | None

    def over_records(self) -> _Bounds:
        near, wide = self.area(_NEAR), self.area(_WIDE)
        counts = f"n = {near.n_members} + {near.n_nonmembers}"
        return _Bounds((near.lower, near.upper), (wide.lower, wide.upper), self.tail(), counts)

    def area(self, level: float) -> Estimate:
        return auroc(
            self.scores.members.to_numpy(),
            self.scores.nonmembers.to_numpy(),
            level,
            member_clusters=self._numbers("members"),
            nonmember_clusters=self._numbers("nonmembers"),
        )

    def tail(self) -> Interval:
        found = certified_tpr(
            self.scores.members.to_numpy(),
            self.scores.nonmembers.to_numpy(),
            TAIL_FPR,
            member_clusters=self._numbers("members"),
            nonmember_clusters=self._numbers("nonmembers"),
            lower_tail=(1.0 - _WIDE) / 2.0,
        )
        return found.lower, found.upper

    def _numbers(self, side: str) -> NDArray[np.int64] | None:
        if self.clusters is None:
            return None
        records = getattr(self.scores, side).index
        return np.array([self.clusters[record] for record in records], dtype=np.int64)


def control_notices(data: StudyData) -> Iterator[Notice]:
    """Yields a notice for every kind of control over its replicates, or for each of one replicate.

    Seeds of one replicate share its split and are none of their own: each is judged over records.
    """
    kinds: dict[str, list[_Control]] = {}
    for cell in data.cells:
        if cell.role != "control":
            continue
        for attack, scores in data.scores.get(cell.alias, {}).items():
            if attack == data.primary:
                one = _Control(cell, scores, record_clusters(cell))
                kinds.setdefault(data.kinds[cell.alias], []).append(one)
    for kind, controls in kinds.items():
        if len({one.cell.replicate for one in controls}) > 1:
            yield _judged(kind, _over_replicates(controls))
        else:
            for one in controls:
                yield _judged(data.labels[one.cell.alias], one.over_records())


def _over_replicates(controls: Sequence[_Control]) -> _Bounds:
    """Returns Student's t of the replicates' AUROCs, and the means of their certified bounds.

    The mean of bounds that each hold is a bound of the mean, and a cautious one: what each adds for
    its own few records is not averaged away.
    """
    figures: dict[int, list[tuple[float, float, float]]] = {}
    for one in controls:
        figure = (one.area(_NEAR).value, *one.tail())
        figures.setdefault(one.cell.replicate, []).append(figure)
    means = np.array([np.mean(own, axis=0) for own in figures.values()])  # [R, 3]
    near, wide = (_within(replicate_mean(means[:, 0], level)) for level in (_NEAR, _WIDE))
    lower, upper = means[:, 1:].mean(axis=0).tolist()
    return _Bounds(near, wide, (lower, upper), f"R = {len(means)} replicates")


def _within(mean: ReplicateEstimate) -> Interval:
    """Returns an AUROC's interval, inside its range; all of that where replicates all agree."""
    return max(0.0, mean.lower), min(1.0, mean.upper)


def _judged(label: str, found: _Bounds) -> Notice:
    (lower, upper), (tpr_lower, tpr_upper) = found.wide, found.tail
    said = {"label": label, "wide": interval_text(lower, upper), "counts": found.counts}
    told_apart, in_tail = not lower <= 0.5 <= upper, tpr_lower > TAIL_FPR
    if told_apart or in_tail:
        tail = f"; TPR at 1% FPR at least {tpr_lower:.3f}" if in_tail else ""
        what = "AUROC differs from 0.5" if told_apart else "TPR lies above its FPR"
        return Notice.filled(_SAYS["not_chance"], **said, what=what, tail=tail)
    shown = (
        f"90% interval {interval_text(*found.near)}, TPR at 1% FPR at most {tpr_upper:.3f}, "
        f"{found.counts}"
    )
    limits = f"0.5 ± {CLEAN_MARGIN} and {CLEAN_TPR:g}"
    kind = "clean" if is_clean(*found.near, tpr_upper) else "not_shown"
    needed = {"caveat": CLEAN_CAVEAT, "needed": RECORDS_FOR_CLEAN}
    return Notice.filled(_SAYS[kind], **said, shown=shown, limits=limits, **needed)
