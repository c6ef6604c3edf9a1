"""Block by block: profiles, heat maps over models, the tests of differences, and every figure."""

from collections.abc import Iterator

import altair as alt
import pandas as pd

from common.prose import prose
from studies.claims.verdict import BLOCK_MARGIN
from studies.compare.shift import dealt_by_coins
from studies.report import charts, tables
from studies.report.block_figures import (
    BLOCK_LINES,
    PLACE,
    block_column,
    block_rows,
    depth_axis,
    profile_chart,
    support_column,
)
from studies.report.heat_maps import AUROC_SHADE
from studies.report.over_replicates import over_replicates
from studies.report.parts import Chart, Legend, Part, Text, section
from studies.report.study_data import StudyData

_RELIABLE = 0.8
_NUMBERED = 8
"""Most blocks whose cells are wide enough for a number."""

_KEY = ["role", "signal", "params", *PLACE]
_SAYS = prose(__file__)


@section("blocks", "Block by block")
def blocks(data: StudyData) -> Iterator[Part]:
    """Yields what each block gives away, as far as blocks were audited."""
    rows = block_rows(data)
    if not len(rows):
        return
    yield from map(Text, block_sentences(data, rows))
    areas = rows[(rows["metric"] == "auroc") & rows["value"].notna()]
    areas = over_replicates(data, areas, _KEY)
    if len(areas):
        colours = charts.label_colours(data, data.kinds)
        yield Legend("Models", charts.legend_entries(colours, rows["run"].map(data.kinds)))
        yield Chart("block_profiles", _profiles(areas, colours), _SAYS["profiles"], "Profiles")
        yield Chart("block_heat", _heat(areas), _SAYS["heat"], "Model by block")
    caption = _SAYS["tests"] + (_SAYS["several"] if data.replicated else _SAYS["one"])
    yield from (tests_table(data, rows), Text(caption, "caption"), areas_table(data, rows))


def _profiles(rows: pd.DataFrame, colours: charts.Colours) -> charts.Spec:
    # Counterfactuals and controls repeat every band; theirs are in the tooltip and the table.
    frame = rows.assign(banded=rows["role"].isin(("teacher", "student")))
    return profile_chart(frame, colours)


def _heat(rows: pd.DataFrame) -> charts.Spec:
    """AUROC by model and relative depth; cells are as wide as blocks."""
    frame = rows.assign(
        left=rows["block"] / rows["n_blocks"], right=(rows["block"] + 1) / rows["n_blocks"]
    )
    frame["middle"] = (frame["left"] + frame["right"]) / 2
    named = ["label", "signal", "block", "left", "middle", "right", *tables.ESTIMATE]
    base = alt.Chart(frame[named]).encode(
        y=alt.Y("label:N", title=None, sort=list(dict.fromkeys(frame["label"]))),
        tooltip=charts.tooltips(*BLOCK_LINES),
    )
    rects = base.mark_rect(stroke=charts.NEUTRAL, strokeWidth=0.3)
    layers = [rects.encode(x=depth_axis("left"), x2="right:Q", color=AUROC_SHADE.color())]
    if frame["n_blocks"].max() <= _NUMBERED:
        text = alt.Text("value:Q", format=".2f")
        numbers = base.mark_text(fontSize=10.5).encode(text=text, color=AUROC_SHADE.ink())
        layers.append(numbers.encode(x="middle:Q"))
    cells = alt.LayerChart(layer=layers).properties(width=230, height=24 * frame["label"].nunique())
    facet = alt.Facet("signal:N", title=None, sort=list(dict.fromkeys(frame["signal"])))
    return charts.panels_spec(cells.facet(facet=facet, columns=3), ink=True)


def areas_table(data: StudyData, rows: pd.DataFrame) -> tables.PageTable:
    """Returns the AUROC of every block with its interval, and its corrected p-value."""
    frame = rows[rows["metric"] == "auroc"]
    shown = over_replicates(data, frame, _KEY)
    columns = [
        *tables.words(data.notes, label="Model", signal="Signal"),
        block_column(),
        tables.estimate("AUROC"),
        support_column(data),
    ]
    named = ["label", "run", "signal", "name", "params", *PLACE, "metric"]
    frame = frame[[*named, *tables.ESTIMATE[:3], "p_value", *tables.ESTIMATE[3:], "shifted"]]
    return tables.table("blocks", "AUROC of every block", columns, shown, frame)


def tests_table(data: StudyData, rows: pd.DataFrame) -> tables.PageTable:
    """Returns whether blocks differ: max - min with its interval, a row per model and signal.

    A single model has tests of its own. Of several replicates the table counts those of which a
    large difference is shown; what they say together is a claim of the study's.
    """
    key = ["run", "name", "params"]
    tests = rows[rows["metric"] == "max_minus_min"]
    for metric, column, name in (
        ("max_minus_min_corrected", "value", "corrected"),
        ("equal_blocks_wald", "p_value", "wald_p_value"),
    ):
        other = rows.loc[rows["metric"] == metric, [*key, column]].rename(columns={column: name})
        tests = tests.merge(other, on=key, how="left")
    columns = [
        *tables.words(data.notes, label="Model", signal="Signal", large="Large"),
        *(tables.estimate("Max − min"), tables.number("Less bias", "corrected", ".3f")),
        *(
            []
            if data.replicated
            else [tables.p_value("p (1)"), tables.p_value("p (2)", "wald_p_value")]
        ),
    ]
    named = ["label", "run", "signal", "name", "params", "n_blocks", "corrected", "wald_p_value"]
    frame = tests[[*named, *tables.ESTIMATE[:3], "p_value", *tables.ESTIMATE[3:], "shifted"]]
    return tables.table("block_tests", "Do blocks differ?", columns, _judged(data, tests), frame)


def _judged(data: StudyData, tests: pd.DataFrame) -> pd.DataFrame:
    """Returns the tests with `large` in words, over replicates where there are several."""
    large = tests["lower"] > BLOCK_MARGIN
    if not data.replicated:
        return tests.assign(large=large.map({True: "shown", False: "not shown"}))
    key = ["label", "signal", "params"]
    kinds = tests.assign(label=tests["run"].map(data.kinds), large=large)
    counts = kinds.groupby(key)["large"].agg(["sum", "size"]).astype(str)
    texts = (counts["sum"] + " of " + counts["size"]).rename("large")
    corrected = over_replicates(data, tests.assign(value=tests["corrected"]), key[1:])
    less_bias = corrected.set_index(key)["value"].rename("corrected")
    return over_replicates(data, tests, key[1:]).join(texts, on=key).join(less_bias, on=key)


def block_sentences(data: StudyData, rows: pd.DataFrame) -> list[str]:
    """Returns what the section says in words: shift, limits, tests, reliability, calibration."""
    return [
        *_shifted(data, rows),
        _SAYS["meaning"],
        *_differences(rows),
        *_unreliable(data, rows),
        *_calibration(rows),
    ]


def _shifted(data: StudyData, rows: pd.DataFrame) -> Iterator[str]:
    """Yields what a reader must know first: whether the texts alone tell the record sets apart.

    Nothing where coins dealt them: what the texts tell is then luck, which every interval counts.
    """
    if dealt_by_coins(data.results, rows["run"].unique()):
        return
    shifted = rows[rows["shifted"].eq(True)]
    if len(shifted):
        yield _SAYS["shifted"].format(runs=", ".join(shifted["label"].unique()))
    elif rows["shifted"].isna().any():
        yield _SAYS["not_excluded"]


def _differences(rows: pd.DataFrame) -> Iterator[str]:
    """Yields the tested statement, about these weights."""
    tests = rows[(rows["metric"] == "max_minus_min") & rows["lower"].notna()]
    if len(tests):
        large = tests.assign(large=tests["lower"] > BLOCK_MARGIN)
        counts = large.groupby("signal", sort=False)["large"].agg(["sum", "size"])
        each = "; ".join(f"{name} {own['sum']} of {own['size']}" for name, own in counts.iterrows())
        yield _SAYS["differ"].format(margin=BLOCK_MARGIN, counts=each)


def _unreliable(data: StudyData, rows: pd.DataFrame) -> Iterator[str]:
    """Yields one line on what weight noise says too shakily, models of the same blocks together."""
    every = rows[rows["metric"] == "reliability"]
    shaky = every[~(every["value"] >= _RELIABLE)]
    if not len(shaky):
        return
    if data.replicated:
        each = [
            f"{signal} at block {block:.0f} of {len(own)} of "
            f"{((every['signal'] == signal) & (every['block'] == block)).sum()} models"
            for (signal, block), own in shaky.groupby(["signal", "block"])
        ]
    else:
        models: dict[tuple[str, str], list[str]] = {}
        for (signal, label), own in shaky.groupby(["signal", "label"], sort=False):
            models.setdefault((str(signal), _places(own)), []).append(str(label))
        each = [f"{signal} at {at} of {', '.join(of)}" for (signal, at), of in models.items()]
    yield _SAYS["unreliable"].format(reliable=_RELIABLE, blocks="; ".join(each))


def _places(rows: pd.DataFrame) -> str:
    numbers = sorted(rows["block"].unique())
    if len(numbers) == rows["n_blocks"].max():
        return "every block"
    return f"block{'s' * (len(numbers) > 1)} " + ", ".join(f"{block:.0f}" for block in numbers)


def _calibration(rows: pd.DataFrame) -> Iterator[str]:
    """Yields how far the tuned lens is from the models' own predictions, at its worst block."""
    worst = {
        metric: rows.loc[rows["metric"] == metric].groupby("run")["value"].max()
        for metric in ("kl_tuned", "kl_plain")
    }
    if len(worst["kl_tuned"]):
        tuned, plain = (
            " to ".join(dict.fromkeys(f"{end:.3g}" for end in (own.min(), own.max())))
            for own in worst.values()
        )
        yield _SAYS["calibration"].format(tuned=tuned, plain=plain)
