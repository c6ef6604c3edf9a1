"""What the controls say: models that never met the private records tell nothing apart."""

from collections.abc import Iterator, Sequence

import numpy as np

from callbacks.statistics import auroc, replicate_mean
from callbacks.verdict import CLEAN_MARGIN, is_clean
from studies.report.notice import Notice
from studies.report.study_data import StudyData

__all__ = ["control_notices"]

_NEAR, _WIDE = 0.90, 0.999
Sides = tuple[np.ndarray, np.ndarray]
Interval = tuple[float, float]


def control_notices(data: StudyData) -> Iterator[Notice]:
    """Yields a notice for every kind of control over its replicates, or for each of one replicate.

    Seeds of one replicate share its split and are none of their own: each is judged over records.
    """
    kinds: dict[str, dict[str, tuple[int, Sides]]] = {}
    for cell in data.cells:
        if cell.role != "control":
            continue
        for attack, scores in data.scores.get(cell.alias, {}).items():
            if attack == data.primary:
                sides = (scores.members.to_numpy(), scores.nonmembers.to_numpy())
                kinds.setdefault(data.kinds[cell.alias], {})[cell.alias] = (cell.replicate, sides)
    for kind, runs in kinds.items():
        if len({replicate for replicate, _ in runs.values()}) > 1:
            yield _judged(kind, *_over_replicates(list(runs.values())))
        else:
            for alias, (_, sides) in runs.items():
                yield _judged(data.labels[alias], *_over_records(sides))


def _over_records(sides: Sides) -> tuple[Interval, Interval, str]:
    near, wide = (auroc(*sides, level=level) for level in (_NEAR, _WIDE))
    counts = f"n = {near.n_members} + {near.n_nonmembers}"
    return (near.lower, near.upper), (wide.lower, wide.upper), counts


def _over_replicates(runs: Sequence[tuple[int, Sides]]) -> tuple[Interval, Interval, str]:
    values: dict[int, list[float]] = {}
    for replicate, sides in runs:
        values.setdefault(replicate, []).append(auroc(*sides).value)
    means = [np.mean(own) for own in values.values()]
    near, wide = (replicate_mean(means, level) for level in (_NEAR, _WIDE))
    return (near.lower, near.upper), (wide.lower, wide.upper), f"R = {len(means)} replicates"


def _judged(label: str, near: Interval, wide: Interval, counts: str) -> Notice:
    shown = f"90% interval [{near[0]:.3f}, {near[1]:.3f}], {counts}"
    if not wide[0] <= 0.5 <= wide[1]:
        return Notice(
            "alert",
            f"{label}: AUROC differs from 0.5",
            "A model that never met the private records tells them apart (99.9% interval "
            f"[{wide[0]:.3f}, {wide[1]:.3f}], {counts}): the record sets differ.",
        )
    contains = f"The 99.9% interval [{wide[0]:.3f}, {wide[1]:.3f}] contains 0.5"
    if is_clean(*near):
        return Notice(
            "good", f"{label} clean", f"{contains}; {shown}, inside 0.5 ± {CLEAN_MARGIN}."
        )
    return Notice(
        "note",
        f"{label}: not shown to be clean",
        f"{contains}: no sign of a leak, but too few records or replicates to exclude one: "
        f"{shown}, not inside 0.5 ± {CLEAN_MARGIN}.",
    )
