"""What a probe of hidden states finds in a model beyond another, block by block."""

from collections.abc import Iterator

import altair as alt
import pandas as pd

from common.prose import prose
from studies.compare.probe_differences import PROBE_DIFFERENCE
from studies.report import tables
from studies.report.block_figures import PLACE, block_column, depth_chart, placed, support_column
from studies.report.charts import label_colours, legend_entries
from studies.report.labels import ROLE_NAMES
from studies.report.over_replicates import over_replicates
from studies.report.parts import Chart, Legend, Part, Text, section
from studies.report.study_data import StudyData

_SAYS = prose(__file__)


@section("probes", "Probe, beyond what another model tells")
def probes(data: StudyData) -> Iterator[Part]:
    """Yields the probes' differences, where hidden states were probed."""
    rows = probe_rows(data)
    if not len(rows):
        return
    beyond = rows.loc[rows["lower"] > 0, ["run", "run_b"]].drop_duplicates()
    pairs = rows[["run", "run_b"]].drop_duplicates()
    yield Text(_SAYS["text"].format(len(beyond), len(pairs)))
    drawn = rows[rows["value"].notna()]
    drawn = over_replicates(data, drawn, ["compared", "params", *PLACE]).assign(banded=True)
    if len(drawn):
        colours = label_colours(data, data.kinds)
        yield Legend("Models", legend_entries(colours, drawn["label"]))
        title = "Difference of AUROC"
        spec = depth_chart(drawn, "compared", colours, title, 0.0, alt.Scale())
        yield Chart("block_probes", spec, _SAYS["chart"])
    yield _table(data, rows)


def probe_rows(data: StudyData) -> pd.DataFrame:
    """Returns what probes find in a model beyond another, with `compared`, the other's role."""
    rows = placed(data.rows(audit="blocks", population="private", metric=PROBE_DIFFERENCE))
    roles = {cell.alias: ROLE_NAMES[cell.role] for cell in data.cells}
    return rows.assign(compared="Minus its " + rows["run_b"].map(roles).str.lower())


def _table(data: StudyData, rows: pd.DataFrame) -> tables.PageTable:
    kinds = {"label_b": rows["run_b"].map(data.kinds)} if data.replicated else {}
    shown = over_replicates(data, rows.assign(**kinds), ["label_b", "params", *PLACE])
    columns = [
        *tables.words(data.notes, label="Model", label_b="Compared with"),
        *(block_column(), tables.estimate("Difference of AUROC"), support_column(data)),
    ]
    named = ["label", "run", "label_b", "run_b", "name", "params", *PLACE]
    frame = rows[[*named, *tables.ESTIMATE[:3], "p_value", *tables.ESTIMATE[3:], "shifted"]]
    caption = "Probe of hidden states: differences of two models"
    return tables.table("block_probes", caption, columns, shown, frame)
