"""Memorization, and whose: what stands in the section, and the sentences that limit it."""

import json
from collections.abc import Iterator

import pandas as pd

from audits.memorization.exposure import CHANCE_BITS
from common.prose import prose
from studies.compare.decomposition import FEWEST_SEEDS
from studies.report import tables
from studies.report.charts import point_lines
from studies.report.labels import attack_title
from studies.report.over_replicates import over_replicates
from studies.report.parts import Chart, Pair, Part, Text, section
from studies.report.study_data import StudyData

DISAGREEMENT = ("overlap", "disagreement")
"""Names of the rows that set memorization against membership, which have a section of their own."""

_EXPOSED, _COINS = "canary_exposure", "canary_in"
_COIN_METRICS = ("auroc", "epsilon_lower", "mu_lower")
_CHANNELS = ("teacher_kl", "transfer_overlap", "transfer_overlap_gap", "relative_leakage")
# The same in every row of a table, and named in the page's text.
_HIDDEN_PARAMS = ("tokens", "excess", "replicates", "student_seeds", "teacher_seeds")
_SAYS = prose(__file__)


@section("memorization", "Memorization, and whose")
def memorization(data: StudyData) -> Iterator[Part]:
    """Yields the comparisons of memorization, and canaries, as far as measured."""
    rows = memorization_rows(data)
    yield from map(Text, (*_decided(rows), *_not_given(rows)))
    yield from _charts(data, rows)
    rows = rows[~rows["name"].isin(DISAGREEMENT)]
    if len(rows):
        caption = "Memorization: comparisons of two models, and canaries"
        yield memorization_table(data, "memorization", caption, rows)


def memorization_rows(data: StudyData) -> pd.DataFrame:
    """Returns the rows that compare memorization, and those of canaries, all tasks together.

    Where there are any, also those of the channels that a student learns through.
    """
    rows = data.rows(audit="memorization", task=None)
    studied = rows["name"].isin(("conditional", "decomposition", "overlap", "disagreement"))
    exposed = rows["population"].eq(_EXPOSED)
    chosen = rows[studied | exposed | rows["metric"].str.endswith("_excess")]
    coins = data.rows(audit="membership", population=_COINS, task=None, block=None)
    coins = coins[coins["metric"].isin(_COIN_METRICS) & coins["name"].map(attack_title).notna()]
    channels = data.rows(task=None)
    shown = len(chosen) + len(coins) > 0
    channels = channels[channels["metric"].isin(_CHANNELS) & shown]
    technique_rows = data.technique_rows.reindex(columns=chosen.columns)
    chosen = pd.concat([chosen, coins, channels, technique_rows])
    return chosen.assign(
        label=chosen["label"].fillna("All techniques"),
        measure=chosen["metric"].map(_SAYS["measures"]),
        detail=[
            _detail(attack_title(name), params)
            for name, params in zip(chosen["name"], chosen["params"], strict=True)
        ],
    )


def _detail(attack: str | None, params: str) -> str:
    """Returns what a row is about: an attack, or the parameters that tell it from its neighbours.

    Of a bound on epsilon also at which delta.
    """
    known = json.loads(params)
    if attack is not None:
        return attack if known.get("delta") is None else f"{attack}, δ = {known['delta']:.2g}"
    shown = {name: value for name, value in known.items() if name not in _HIDDEN_PARAMS}
    told = ", ".join(f"{name} {value}" for name, value in shown.items()) or "—"
    return told.replace("_", " ")


def memorization_table(
    data: StudyData, name: str, caption: str, rows: pd.DataFrame
) -> tables.PageTable:
    """Returns rows of memorization with what they compare and on which records."""
    shown = _means(data, rows)
    both = shown[["n_members", "n_nonmembers"]].astype(float)
    text = both.map(lambda count: "" if pd.isna(count) else f"{count:,.0f}")
    shown = shown.assign(
        records=shown["population"].astype(str).str.replace("_", " "),
        counted=both.sum(axis=1, min_count=1),
        counts=[" + ".join(filter(None, pair)) for pair in text.to_numpy()],
    )
    columns = [
        *tables.words(data.notes, label="Model", label_b="Compared with"),
        *tables.words(records="Records", measure="Measure", detail="Of what"),
        *(tables.estimate("Estimate"), tables.p_value()),
        *([tables.number("Replicates", "replicates")] if data.replicated else []),
        tables.number("Records counted", "counted", text="counts"),
    ]
    named = ["label", "run", "label_b", "run_b", "population", "name", "params", "metric"]
    frame = rows[[*named, *tables.ESTIMATE[:3], "p_value", *tables.ESTIMATE[3:]]]
    return tables.table(name, caption, columns, shown, frame)


def _means(data: StudyData, rows: pd.DataFrame) -> pd.DataFrame:
    """Returns rows over replicates; those that speak of all of them stay, and have no number.

    These are tests about techniques, and sets of records, which stand at a technique's first run.
    """
    if not data.replicated:
        return rows
    of_runs = rows["run"].isin(list(data.kinds)) & (rows["name"] != "decomposition")
    # Tests about techniques keep their label.
    kinds = rows.assign(
        label=rows["run"].map(data.kinds).fillna(rows["label"]),
        label_b=rows["run_b"].map(data.kinds),
    )
    key = ["label_b", "population", "name", "metric", "params", "measure", "detail"]
    means = pd.concat([over_replicates(data, kinds[of_runs], key), kinds[~of_runs]])
    return means.reindex(columns=[*dict.fromkeys([*rows.columns, "replicates"])])


def _charts(data: StudyData, rows: pd.DataFrame) -> Iterator[Chart | Pair]:
    """Yields the conditional curves, their difference in differences, and exposure."""
    rows = _means(data, rows[rows["value"].notna()])
    params = [json.loads(text) for text in rows["params"]]
    rows = rows.assign(
        **{name: [own.get(name) for own in params] for name in ("tau", "repetitions", "format")}
    )
    curves = rows[(rows["name"] == "conditional") & (rows["metric"] == "token_accuracy")]
    did = rows[rows["metric"] == "did"]
    exposure = rows[(rows["metric"] == "exposure") & (rows["format"] == "all")]
    cut, pair = "Teacher accuracy above", []
    if len(curves):
        lines = curves.assign(line=curves["label"] + ", " + curves["population"])
        spec = point_lines(lines, "tau", cut, "Token accuracy")
        pair.append(Chart("conditional", spec, _SAYS["conditional"], "Where the teacher is right"))
    if len(did):
        spec = point_lines(did.assign(line=did["label"]), "tau", cut, "DiD of token accuracy", 0.0)
        pair.append(Chart("did", spec, _SAYS["did"], "What of it was inherited"))
    if pair:
        yield Pair(pair)
    if len(exposure):
        lines, title = exposure.assign(line=exposure["label"]), "Exposure (bits)"
        spec = point_lines(lines, "repetitions", "Repetitions of the canary", title, CHANCE_BITS)
        yield Chart("exposure", spec, _SAYS["exposure"], "Exposure of canaries")


def _decided(rows: pd.DataFrame) -> Iterator[str]:
    net = rows[rows["metric"] == "inherited_net"]
    if len(net) and not (net["n_members"] > 0).any():
        yield _SAYS["undecided"].format(seeds=FEWEST_SEEDS)
    elif len(net):
        yield _SAYS["decided"]


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
            counts = {"missing": missing.sum(), "cases": len(did), "cuts": cuts}
            yield _SAYS["no_did"].format(what=what, why=why, **counts)
    shares = rows[rows["metric"] == "relative_leakage"]
    if (unbounded := shares["value"].notna() & shares["lower"].isna()).any():
        yield _SAYS["unbounded"].format(missing=unbounded.sum(), cases=len(shares))
