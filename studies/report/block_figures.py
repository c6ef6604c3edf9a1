"""Rows, columns and curves of blocks, which the sections on blocks and on probes share."""

import json

import altair as alt
import pandas as pd

from audits.blocks.profile import relative_depth
from studies.report import charts, tables
from studies.report.labels import SIGNAL_NAMES
from studies.report.study_data import BLIND, StudyData

PLACE = ["block", "n_blocks", "depth"]
"""Columns that say where a row is in the network."""
BLOCK_LINES = (("label:N", "Run"), ("block:Q", "Block"))
"""First lines of the tooltips."""

# What the audit says of the records' texts before it says anything of blocks.
_OF_THE_TEXTS = (BLIND, "balance")


def block_rows(data: StudyData) -> pd.DataFrame:
    """Returns the block audits' rows of private records with `signal`, `depth` and `n_blocks`.

    They stand by model, signal and block.
    """
    rows = data.rows(audit="blocks", population="private", task=None, run_b=None)
    rows = placed(rows[~rows["name"].isin(_OF_THE_TEXTS)])
    signals = list(dict.fromkeys([*SIGNAL_NAMES, *rows["name"]]))
    runs = [cell.alias for cell in data.cells]
    order = {"_run": rows["run"].map(runs.index), "_name": rows["name"].map(signals.index)}
    by = [*order, "signal", "block"]
    return rows.assign(**order).sort_values(by).drop(columns=list(order))


def placed(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns rows of blocks with `signal`, and where the block is: `n_blocks` and `depth`."""
    params = [json.loads(text) for text in rows["params"]]
    n_blocks = [int(own["n_blocks"]) for own in params]
    return rows.assign(
        signal=[_signal(name, own) for name, own in zip(rows["name"], params, strict=True)],
        n_blocks=n_blocks,
        depth=[
            relative_depth(block, of) for block, of in zip(rows["block"], n_blocks, strict=True)
        ],
    )


def _signal(name: str, params: dict[str, object]) -> str:
    shown = SIGNAL_NAMES.get(name, name)
    if "measure" in params:
        shown += ", " + str(params["measure"]).replace("_x_", " × ").replace("_", " ")
    return f"{shown}, one sign" if params.get("antithetic") is False else shown


def depth_chart(
    frame: pd.DataFrame,
    panel: str,
    colours: charts.Colours,
    title: str,
    null: float,
    scale: alt.Scale,
) -> charts.Spec:
    """Returns estimates over relative depth, a panel for each value of a column.

    Args:
        frame: `label`, `banded`, the panel's column, `block`, `depth` and the estimate.
        panel: The column.
        colours: Colour and dash of each label.
        title: What the estimates are.
        null: Their value where nothing leaks.
        scale: Of the estimates.
    """
    columns = frame[["label", panel, "block", "depth", "banded", *tables.ESTIMATE]]
    layer = charts.banded_curves(
        columns, depth_axis("depth"), colours, title, null, BLOCK_LINES, scale
    )
    return charts.in_panels(layer, panel, frame[panel], (285, 180))


def profile_chart(frame: pd.DataFrame, colours: charts.Colours) -> charts.Spec:
    """Returns AUROC over relative depth, a panel for each signal; `frame` as in `depth_chart`."""
    return depth_chart(frame, "signal", colours, "AUROC", 0.5, alt.Scale(domain=[0, 1]))


def depth_axis(field: str) -> alt.X:
    """Returns the axis of relative depths in a column of the frame."""
    axis = alt.Axis(values=[0, 0.25, 0.5, 0.75, 1], format=".2~f", grid=False)
    scale = alt.Scale(domain=[0, 1])
    return alt.X(f"{field}:Q", title="Relative depth, input to head", scale=scale, axis=axis)


def block_column() -> tables.Column:
    """Which block of how many, sorted by its relative depth."""

    def cell(row: pd.Series) -> tables.TableCell:
        return tables.TableCell(f"{row['block']:.0f} of {row['n_blocks']}", f"{row['depth']:.6f}")

    return tables.Column("Block", cell)


def support_column(data: StudyData) -> tables.Column:
    """What stands beside an estimate: its replicates, or the test of a single model."""
    if data.replicated:
        return tables.number("Replicates", "replicates")
    return tables.p_value("p, corrected over blocks")
