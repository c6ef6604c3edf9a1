"""A study of several families or sizes: runs by attack in each, and sizes by technique."""

import pandas as pd

from studies.claims.figures import GAP_PARAMS
from studies.report.charts import Spec
from studies.report.figures import utility_rows
from studies.report.heat_maps import Shade, attack_map, attack_panels, size_map
from studies.report.over_replicates import figures_by, over_replicates
from studies.report.study_data import StudyData

__all__ = ["attack_heat", "family_sizes", "size_charts"]

_GAP = "token_accuracy_gap"
_NO_TEACHER = "control"


def family_sizes(data: StudyData) -> dict[str, list[str]]:
    """Returns the sizes of the planned students by family, both in the plan's order."""
    found: dict[str, list[str]] = {}
    for cell in data.plan.cells:
        if cell.role == "student" and cell.size not in found.setdefault(cell.family, []):
            found[cell.family].append(cell.size)
    return found


def attack_heat(data: StudyData, rows: pd.DataFrame) -> Spec:
    """Returns AUROC by run and attack: one map, or a panel for each family and size.

    Args:
        data: The study.
        rows: The attacks' AUROCs, without missing ones.
    """
    sizes = family_sizes(data)
    if sum(map(len, sizes.values())) < 2:
        return attack_map(over_replicates(data, rows, ["attack"]))
    panels = {
        family: {size: f"{family} → {size}" for size in listed} for family, listed in sizes.items()
    }
    parts = []
    for cell in data.cells:
        own = panels.get(cell.family, {})
        # A teacher stands in every panel of its family, beside its students.
        shown = [own[cell.size]] if cell.size in own else list(own.values())
        placed = {"family": cell.family, "label": data.plain_labels[cell.alias]}
        found = rows[rows["run"] == cell.alias].assign(**placed, replicate=cell.replicate)
        parts += [found.assign(panel=panel) for panel in shown]
    frame = figures_by(pd.concat(parts), ["family", "panel", "label", "attack"])
    return attack_panels(frame, {family: list(own.values()) for family, own in panels.items()})


def size_charts(data: StudyData) -> dict[str, Spec]:
    """Returns the gap in token accuracy and ROUGE-L by size and technique, of several sizes."""
    if sum(map(len, family_sizes(data).values())) < 2:
        return {}
    gaps = data.rows(metric=_GAP, params=GAP_PARAMS, task=None, block=None, run_b=None)
    rouge = utility_rows(data)
    rouge = rouge[rouge["measure"] == "rouge_l_f1"].assign(
        value=rouge["utility"],
        lower=rouge["utility_lower"],
        upper=rouge["utility_upper"],
        n_members=None,
        n_nonmembers=rouge["utility_n"],
    )
    specs = {}
    for name, rows, title in (
        ("gap_heat", gaps, "Gap in token accuracy"),
        ("rouge_heat", rouge, "ROUGE-L F1"),
    ):
        found = _by_size(data, rows)
        if len(found):
            end = max(float(found["value"].abs().max()), 1e-3)
            signed = name == "gap_heat"
            ends = (-end, 0.0, end) if signed else (end, 0.0, -end)
            specs[name] = size_map(found, Shade(title, *ends, format=".3f", legend=signed))
    return specs


def _by_size(data: StudyData, rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the figures of students and controls: `label` a size, `technique` what taught it."""
    rows = rows[rows["value"].notna()]
    order = [size for sizes in family_sizes(data).values() for size in sizes]
    parts = [
        rows[rows["run"] == cell.alias].assign(
            label=cell.size,
            technique=cell.technique or _NO_TEACHER,
            replicate=cell.replicate,
            place=order.index(cell.size),
        )
        for cell in data.cells
        if cell.role in ("student", _NO_TEACHER) and cell.size in order
    ]
    if not parts:
        return rows.iloc[:0]
    return figures_by(pd.concat(parts), ["place", "label", "technique"]).sort_values(
        "place", kind="stable"
    )
