"""The page's section on memorization: what stands in it, and the sentences that limit it."""

import json
from collections.abc import Iterator

import altair as alt
import pandas as pd

from audits.memorization.exposure import CHANCE_BITS
from studies.compare.decomposition import FEWEST_SEEDS
from studies.report.charts import Spec, attack_colours, chart_spec
from studies.report.over_replicates import over_replicates
from studies.report.page_tables import (
    PageTable,
    TableCell,
    TableColumn,
    count_cell,
    estimate_cell,
    p_value_cell,
)
from studies.report.study_data import ATTACK_NAMES, StudyData

__all__ = [
    "disagreement_sentences",
    "memorization_charts",
    "memorization_rows",
    "memorization_sentences",
    "memorization_tables",
]

_NUMBERS = ["value", "lower", "upper", "p_value", "n_members", "n_nonmembers"]
_EXPOSED, _COINS = "canary_exposure", "canary_in"
_COIN_METRICS = ("auroc", "epsilon_lower")
_DISAGREEMENT = ("overlap", "disagreement")
_CHANNELS = ("teacher_kl", "transfer_overlap", "transfer_overlap_gap", "relative_leakage")
_MEASURES = {
    "token_accuracy_excess": "Excess token accuracy",
    "token_accuracy_gap_excess": "Excess of the gap, private − held out",
    "extraction_strength_excess": "Excess extraction strength",
    "exact_match_rate_excess": "Excess of exact matches",
    "similarity_excess": "Excess similarity",
    "extraction_probability_excess": "Excess of the probability to be drawn",
    "token_accuracy": "Token accuracy",
    "did": "Difference in differences",
    "inherited": "Inherited",
    "teacher_only": "Teacher only",
    "student_only": "Student only",
    "inherited_net": "Inherited, less never-seen",
    "teacher_only_net": "Teacher only, less never-seen",
    "student_only_net": "Student only, less never-seen",
    "exposure": "Exposure of canaries (bits)",
    "exposure_chance": "Exposure by chance (bits)",
    "teacher_kl": "Distance from the teacher (nats per token)",
    "transfer_overlap": "Verbatim in the text that taught the student",
    "transfer_overlap_gap": "The same, private − others",
    "relative_leakage": "Leakage as a share of the anchor’s",
    "auroc": "AUROC of coin canaries",
    "epsilon_lower": "Lower bound on ε, one run",
    "kendall_tau": "Kendall’s τ, membership and memorization",
    "kendall_ceiling_membership": "τ of membership with itself",
    "kendall_ceiling_memorization": "τ of memorization with itself",
    "crossing_membership": "Difference of membership",
    "crossing_memorization": "Difference of memorization",
    "top_overlap": "Overlap of the most exposed",
    "top_overlap_chance": "Overlap by chance",
    "top_overlap_ceiling_membership": "Overlap of membership with itself",
    "top_overlap_ceiling_memorization": "Overlap of memorization with itself",
}
# The same in every row of a table, and named in the page's text.
_HIDDEN_PARAMS = ("tokens", "excess", "replicates", "student_seeds", "teacher_seeds")


def memorization_rows(data: StudyData) -> pd.DataFrame:
    """Returns the rows that compare memorization, and those of canaries, all tasks together.

    Where there are any, also those of the channels that a student learns through.
    """
    rows = data.rows(audit="memorization", task=None)
    studied = rows["name"].isin(("conditional", "decomposition", "overlap", "disagreement"))
    exposed = rows["population"].eq(_EXPOSED)
    chosen = rows[studied | exposed | rows["metric"].str.endswith("_excess")]
    coins = data.rows(audit="membership", population=_COINS, task=None, block=None)
    coins = coins[coins["metric"].isin(_COIN_METRICS) & coins["name"].isin(ATTACK_NAMES)]
    channels = data.rows(task=None)
    shown = len(chosen) + len(coins) > 0
    channels = channels[channels["metric"].isin(_CHANNELS) & shown]
    technique_rows = data.technique_rows.reindex(columns=chosen.columns)
    chosen = pd.concat([chosen, coins, channels, technique_rows])
    return chosen.assign(
        label=chosen["label"].fillna("All techniques"),
        measure=chosen["metric"].map(_MEASURES),
        detail=[
            _attack(name, params) if name in ATTACK_NAMES else _detail(params)
            for name, params in zip(chosen["name"], chosen["params"], strict=True)
        ],
    )


def memorization_tables(data: StudyData) -> dict[str, PageTable]:
    """Returns the figures of memorization and of its disagreement with membership, if any."""
    rows = memorization_rows(data)
    apart = rows["name"].isin(_DISAGREEMENT)
    parts = {"memorization": rows[~apart], "disagreement": rows[apart]}
    return {name: _table(data, part) for name, part in parts.items() if len(part)}


def _means(data: StudyData, rows: pd.DataFrame) -> pd.DataFrame:
    """Returns rows over replicates; those that speak of all of them stay, and have no number.

    These are tests about techniques, and sets of records, which stand at a technique's first run.
    """
    if not data.replicated:
        return rows
    own = rows["run"].isin(list(data.kinds)) & (rows["name"] != "decomposition")
    runs = _of_kinds(data, rows[own])
    key = ["label_b", "population", "name", "metric", "params", "measure", "detail"]
    means = pd.concat([over_replicates(data, runs, key), _of_kinds(data, rows[~own])])
    return means.reindex(columns=[*dict.fromkeys([*rows.columns, "replicates"])])


def _of_kinds(data: StudyData, rows: pd.DataFrame) -> pd.DataFrame:
    """Returns rows under the labels of kinds of runs; tests about techniques keep theirs."""
    return rows.assign(
        label=rows["run"].map(data.kinds).fillna(rows["label"]),
        label_b=rows["run_b"].map(data.kinds),
    )


def _table(data: StudyData, rows: pd.DataFrame) -> PageTable:
    columns = [
        *(
            TableColumn(title)
            for title in ("Model", "Compared with", "Records", "Measure", "Of what")
        ),
        TableColumn("Estimate", numeric=True),
        TableColumn("p", numeric=True),
        *([TableColumn("Replicates", numeric=True)] if data.replicated else []),
        TableColumn("Records counted", numeric=True),
    ]
    cells = [
        [
            TableCell(row["label"]),
            TableCell("—" if pd.isna(row["label_b"]) else row["label_b"]),
            TableCell(str(row["population"]).replace("_", " ")),
            TableCell(row["measure"]),
            TableCell(row["detail"]),
            estimate_cell(row),
            p_value_cell(row["p_value"]),
            *([count_cell(row["replicates"])] if data.replicated else []),
            _records(row),
        ]
        for _, row in _means(data, rows).iterrows()
    ]
    names = ["label", "run", "label_b", "run_b", "population", "name", "params", "metric"]
    return PageTable(columns, cells, rows[[*names, *_NUMBERS]])


def memorization_charts(data: StudyData) -> dict[str, Spec]:
    """Returns the conditional curves, their DiD, and exposure, as far as measured."""
    rows = memorization_rows(data)
    rows = _means(data, rows[rows["value"].notna()])
    found = {
        name: rows["params"].map(lambda params, name=name: json.loads(params).get(name))
        for name in ("tau", "repetitions", "format")
    }
    rows = rows.assign(**found)
    curves = rows[(rows["name"] == "conditional") & (rows["metric"] == "token_accuracy")]
    did = rows[rows["metric"] == "did"]
    exposure = rows[(rows["metric"] == "exposure") & (rows["format"] == "all")]
    specs = {}
    if len(curves):
        lines = curves.assign(line=curves["label"] + ", " + curves["population"])
        specs["conditional"] = _curve(lines, "tau", "Teacher accuracy above", "Token accuracy")
    if len(did):
        lines = did.assign(line=did["label"])
        specs["did"] = _curve(lines, "tau", "Teacher accuracy above", "DiD of token accuracy", 0.0)
    if len(exposure):
        lines = exposure.assign(line=exposure["label"])
        specs["exposure"] = _curve(
            lines, "repetitions", "Repetitions of the canary", "Exposure (bits)", CHANCE_BITS
        )
    return specs


def memorization_sentences(data: StudyData) -> list[str]:
    """Returns what a reader must know of the figures, in one sentence each."""
    rows = memorization_rows(data)
    return [*_decided(rows), *_not_given(rows)]


def disagreement_sentences(data: StudyData) -> list[str]:
    """Returns whether membership and memorization rank techniques differently, in a sentence."""
    return list(_agreement(data, memorization_rows(data)))


def _decided(rows: pd.DataFrame) -> Iterator[str]:
    net = rows[rows["metric"] == "inherited_net"]
    if len(net) and not (net["n_members"] > 0).any():
        yield (
            "Inherited, teacher-only and student-only records: no record is decided. A record "
            f"needs teachers and students of {FEWEST_SEEDS} seeds or more, and counterfactuals."
        )
    elif len(net):
        yield (
            "Inherited, teacher-only and student-only: share of records above the excess that "
            "counts as memorized; the same share of never-seen records stands beside it and is "
            "subtracted."
        )


def _not_given(rows: pd.DataFrame) -> Iterator[str]:
    """Yields where a figure of what was inherited, or its interval, is not given, and why."""
    did = rows[rows["metric"] == "did"]
    taus = did["params"].map(lambda params: json.loads(params)["tau"])
    single = did["value"].notna() & did["lower"].isna()
    for missing, what, why in (
        (did["n_members"] == 0, "value", "no private record"),
        (did["n_nonmembers"] == 0, "value", "no never-seen record"),
        (single, "interval", "on one side only near-duplicates of one record"),
    ):
        if missing.any():
            cuts = ", ".join(f"{tau:g}" for tau in sorted(set(taus[missing])))
            yield (
                f"Difference in differences: no {what} in {missing.sum()} of {len(did)} cases (tau "
                f"{cuts}), where the teacher is above the cut on {why}."
            )
    shares = rows[rows["metric"] == "relative_leakage"]
    if (unbounded := shares["value"].notna() & shares["lower"].isna()).any():
        yield (
            "Leakage as a share of the anchor’s: no interval in "
            f"{unbounded.sum()} of {len(shares)} cases, where the anchor is not told from chance."
        )


def _agreement(data: StudyData, rows: pd.DataFrame) -> Iterator[str]:
    replicates = len({cell.replicate for cell in data.cells})
    unknown = f"undecided (R = {replicates})"
    tests = rows[rows["metric"] == "crossing_membership"]
    if replicates < 2:
        yield f"Do membership and memorization rank techniques differently? {unknown}."
        return
    pairs = tests[tests["p_value"] <= 0.05]["params"].map(
        lambda params: "{a} and {b}".format_map(json.loads(params))
    )
    named = ", ".join(dict.fromkeys(pairs)) if len(pairs) else "none"
    yield (
        "Pairs of techniques of which one gives more members away and the other memorizes more, "
        f"both beyond their margins (Holm over pairs, R = {replicates}): {named}."
    )
    unknown_pairs = int(tests["p_value"].isna().sum())
    if unknown_pairs:
        yield (
            f"Not computable of {unknown_pairs} of {len(tests)} pairs: all replicates agree, which "
            "leaves no variance to test with."
        )


def _curve(rows: pd.DataFrame, x: str, x_title: str, title: str, null: float | None = None) -> Spec:
    """One line with its interval for every `line` of the rows."""
    lines = list(dict.fromkeys(rows["line"]))
    frame = rows[["line", x, "value", "lower", "upper", "n_members", "n_nonmembers"]]
    scale = alt.Scale(domain=lines, range=list(attack_colours(lines).values()))
    base = alt.Chart(frame).encode(
        x=alt.X(f"{x}:O", title=x_title, axis=alt.Axis(labelAngle=0)),
        color=alt.Color(
            "line:N", title=None, scale=scale, legend=alt.Legend(orient="bottom", columns=3)
        ),
        tooltip=[
            alt.Tooltip("line:N", title="Run"),
            alt.Tooltip(f"{x}:O", title=x_title),
            alt.Tooltip("value:Q", title=title, format=".3f"),
            alt.Tooltip("lower:Q", title="95% from", format=".3f"),
            alt.Tooltip("upper:Q", title="95% to", format=".3f"),
            alt.Tooltip("n_members:Q", title="Members"),
            alt.Tooltip("n_nonmembers:Q", title="Non-members"),
        ],
    )
    y = alt.Y("value:Q", title=title)
    bars = base.mark_rule(opacity=0.5).encode(y=alt.Y("lower:Q", title=title), y2="upper:Q")
    marks = [bars, base.mark_line(strokeWidth=2).encode(y=y), base.mark_point().encode(y=y)]
    if null is not None:
        level = alt.Chart(pd.DataFrame({"null": [null]}))
        marks.append(level.mark_rule(strokeDash=[4, 4]).encode(y=alt.Y("null:Q", title=title)))
    return chart_spec(alt.layer(*marks), height=300)


def _attack(name: str, params: str) -> str:
    """Returns an attack's name; of a bound on epsilon also at which delta."""
    delta = json.loads(params).get("delta")
    return ATTACK_NAMES[name] if delta is None else f"{ATTACK_NAMES[name]}, δ = {delta:.2g}"


def _detail(params: str) -> str:
    """Returns what a row is about: the parameters that tell it from its neighbours."""
    shown = {k: value for k, value in json.loads(params).items() if k not in _HIDDEN_PARAMS}
    return ", ".join(f"{name} {value}" for name, value in shown.items()) or "—"


def _records(row: pd.Series) -> TableCell:
    counts = [row[name] for name in ("n_members", "n_nonmembers") if pd.notna(row[name])]
    text = " + ".join(f"{count:,.0f}" for count in counts)
    return TableCell(text, f"{sum(counts):.0f}") if counts else TableCell("—", "")
