"""What the controls say: models that never met the private records tell nothing apart."""

from collections.abc import Iterator, Sequence

import numpy as np

from callbacks.statistics import auroc, replicate_mean
from callbacks.verdict import CLEAN_MARGIN, is_clean
from studies.report.notice import Notice
from studies.report.study_data import PRIMARY_ATTACK, StudyData

__all__ = ["control_notices"]

_NEAR, _WIDE = 0.90, 0.999
Sides = tuple[np.ndarray, np.ndarray]
Interval = tuple[float, float]


def control_notices(data: StudyData) -> Iterator[Notice]:
    """Yields a notice for every kind of control, over records or over its replicates."""
    runs: dict[str, list[Sides]] = {}
    for cell in data.cells:
        if cell.role != "control":
            continue
        for (name, _), scores in data.scores.get(cell.alias, {}).items():
            if name == PRIMARY_ATTACK:
                sides = (scores.members.to_numpy(), scores.nonmembers.to_numpy())
                runs.setdefault(data.kinds[cell.alias], []).append(sides)
    for kind, own in runs.items():
        yield _judged(kind, *(_over_records(own[0]) if len(own) == 1 else _over_replicates(own)))


def _over_records(sides: Sides) -> tuple[Interval, Interval, str]:
    near, wide = (auroc(*sides, level=level) for level in (_NEAR, _WIDE))
    counts = f"n = {near.n_members} + {near.n_nonmembers}"
    return (near.lower, near.upper), (wide.lower, wide.upper), counts


def _over_replicates(runs: Sequence[Sides]) -> tuple[Interval, Interval, str]:
    values = [auroc(*sides).value for sides in runs]
    near, wide = (replicate_mean(values, level) for level in (_NEAR, _WIDE))
    return (near.lower, near.upper), (wide.lower, wide.upper), f"R = {len(runs)} replicates"


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
