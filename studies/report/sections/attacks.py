"""Technique by attack as heat maps and, of several families or sizes, techniques by size."""

from collections.abc import Iterator

import altair as alt
import pandas as pd

from common.prose import prose
from studies.claims.figures import GAP_PARAMS
from studies.report.charts import Spec, panels_spec
from studies.report.heat_maps import AUROC_SHADE, Shade, heat_cells, heat_map
from studies.report.over_replicates import figures_by, over_replicates
from studies.report.parts import Chart, Part, section
from studies.report.sections.utility import utility_rows
from studies.report.study_data import StudyData
from studies.report.tables import ESTIMATE

_NO_TEACHER = "control"
_CELL_WIDTH, _CELL_HEIGHT = 35, 27
# Longer names of columns than this many letters are written aslant.
_LEVEL, _ASLANT = 12, -40
_SAYS = prose(__file__)


@section("attacks", "Technique by attack")
def attacks(data: StudyData) -> Iterator[Part]:
    """Yields AUROC by run and attack; of several sizes, the gap in accuracy and ROUGE-L too."""
    rows = data.auroc_rows()
    rows = rows[rows["value"].notna()]
    if len(rows):
        yield Chart("heat", attack_heat(data, rows), _SAYS["heat"])
    if _n_sizes(data) > 1:
        gaps = data.rows(
            metric="token_accuracy_gap", params=GAP_PARAMS, task=None, block=None, run_b=None
        )
        if spec := size_heat(data, gaps, "Gap in token accuracy", signed=True):
            yield Chart("gap_heat", spec, _SAYS["gap"], "Memorization by size")
        if spec := size_heat(data, _rouge(data), "ROUGE-L F1", signed=False):
            yield Chart("rouge_heat", spec, _SAYS["rouge"], "Utility by size")


def _n_sizes(data: StudyData) -> int:
    return sum(map(len, data.sizes.values()))


def attack_heat(data: StudyData, rows: pd.DataFrame) -> Spec:
    """Returns AUROC by run and attack: one map, or a panel for each family and size.

    Args:
        data: The study.
        rows: The attacks' AUROCs, without missing ones.
    """
    if _n_sizes(data) < 2:
        return heat_map(over_replicates(data, rows, ["attack"]), "attack")
    panels = {
        family: {size: f"{family} → {size}" for size in listed}
        for family, listed in data.sizes.items()
    }
    frames = []
    for cell in data.cells:
        by_size = panels.get(cell.family, {})
        # A teacher stands in every panel of its family, beside its students.
        shown = [by_size[cell.size]] if cell.size in by_size else list(by_size.values())
        named = {"family": cell.family, "label": data.plain_labels[cell.alias]}
        of_run = rows[rows["run"] == cell.alias].assign(**named, replicate=cell.replicate)
        frames += [of_run.assign(panel=panel) for panel in shown]
    frame = figures_by(pd.concat(frames), ["family", "panel", "label", "attack"])
    attacks = list(dict.fromkeys(frame["attack"]))
    columns = ["family", "panel", "label", "attack", *ESTIMATE]
    lines = []
    for family, by_size in panels.items():
        of_family = frame.loc[frame["family"] == family, columns]
        layer = heat_cells(of_family, "attack", attacks, AUROC_SHADE, angle=_ASLANT)
        sized = layer.properties(width=alt.Step(_CELL_WIDTH), height=alt.Step(_CELL_HEIGHT))
        facet = alt.Column("panel:N", title=None, sort=list(by_size.values()))
        lines.append(sized.facet(column=facet, spacing=12))
    return panels_spec(alt.vconcat(*lines), ink=True)


def _rouge(data: StudyData) -> pd.DataFrame:
    rows = utility_rows(data)
    rows = rows[rows["measure"] == "rouge_l_f1"]
    shown = {name: rows[f"utility_{name}"] for name in ("lower", "upper")}
    counts = {"n_members": None, "n_nonmembers": rows["utility_n"]}
    return rows.assign(value=rows["utility"], **shown, **counts)


def size_heat(data: StudyData, rows: pd.DataFrame, measure: str, *, signed: bool) -> Spec | None:
    """Returns a measure by size and technique, of students and controls; None where not measured.

    Args:
        data: The study.
        rows: The measure's rows.
        measure: What the page calls it.
        signed: Whether 0 is the middle and warm is high; else the largest is cold.
    """
    rows = rows[rows["value"].notna()]
    order = [size for sizes in data.sizes.values() for size in sizes]
    frames = [
        rows[rows["run"] == cell.alias].assign(
            label=cell.size,
            technique=cell.technique or _NO_TEACHER,
            replicate=cell.replicate,
            position=order.index(cell.size),
        )
        for cell in data.cells
        if cell.role in ("student", _NO_TEACHER) and cell.size in order
    ]
    frame = pd.concat(frames) if frames else rows.iloc[:0]
    if not len(frame):
        return None
    frame = figures_by(frame, ["position", "label", "technique"])
    frame = frame.sort_values("position", kind="stable")
    end = max(float(frame["value"].abs().max()), 1e-3)
    ends = (-end, 0.0, end) if signed else (end, 0.0, -end)
    angle = _ASLANT if max(map(len, frame["technique"])) > _LEVEL else 0
    shade = Shade(measure, *ends, format=".3f", legend=signed)
    return heat_map(frame, "technique", shade, angle=angle)
