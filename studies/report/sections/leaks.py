"""Which model gives its records away: every attack, all of them in one test, and the text alone."""

import json
from collections.abc import Iterator, Sequence

import pandas as pd

from audits.membership.any_leak import MAX_T
from audits.membership.attacks import Loss, Reference
from common.prose import prose
from studies.report import tables
from studies.report.charts import NEUTRAL
from studies.report.forest import attack_entries, forest
from studies.report.labels import attack_title, metric_title
from studies.report.over_replicates import over_replicates
from studies.report.parts import Chart, Legend, Part, Text, section
from studies.report.study_data import BLIND, StudyData

_TPR_METRICS = ("tpr_at_fpr_0.1", "tpr_at_fpr_0.01")
_EPSILON_METRICS = tuple(
    metric.replace("tpr_at", "epsilon_equivalent_at") for metric in _TPR_METRICS
)
_ENDS = ["value", "lower", "upper"]
_LEVEL = 0.05
_SAME_RANKING = 0.9999
"""Rank correlation from which two attacks are one: no record of 1,000 moves by more than a few."""

_OTHERS = {"spearman_reference": Reference.title, "spearman_loss": Loss.title}
_SAYS = prose(__file__)


@section("leaks", "Which model gives its records away")
def leaks(data: StudyData) -> Iterator[Part]:
    """Yields the attacks' estimates of each model, in a chart and in tables."""
    yield Legend("Attacks", attack_entries(data.auroc_rows()["attack"]))
    blind = data.blind_rows()
    if len(blind):
        yield Legend("Baseline", [(str(attack_title(BLIND)), NEUTRAL, False)])
    aurocs = data.auroc_rows()
    aurocs = over_replicates(data, aurocs[aurocs["value"].notna()], ["attack"])
    if len(aurocs):
        behind = over_replicates(data, blind[blind["value"].notna()], ["attack"])
        spec = forest(aurocs, "label", "AUROC, private against held-out", 0.5, behind)
        yield Chart("attacks", spec, _SAYS["attacks"])
    yield from (membership_table(data), Text(_SAYS["membership"], "caption"))
    if (any_leak := any_leak_table(data)) is not None:
        yield from (any_leak, Text(_SAYS["max_t"], "caption"))
    yield blind_table(data)
    if len(blind):
        yield Text(_SAYS["blind"], "caption")


def membership_table(data: StudyData) -> tables.PageTable:
    """Returns AUROC and TPR of every attack, private against held-out records.

    Of several replicates the means over them; what goes to CSV is every run's own figure.
    """
    base = data.rows(audit="membership", population="private", task=None, block=None, run_b=None)
    key = ["run", "name", "params"]
    wide = data.auroc_rows().drop_duplicates(key)
    for metric in (*_TPR_METRICS, *_EPSILON_METRICS):
        rows = base[base["metric"] == metric].drop_duplicates(key)[[*key, *_ENDS]]
        renamed = {name: f"{metric}_{name}" for name in _ENDS}
        wide = wide.merge(rows.rename(columns=renamed), on=key, how="left")
    notes = _attack_notes(data)

    def attack(row: pd.Series) -> tables.TableCell:
        note = notes.get((row["label"], row["attack"]))
        return tables.TableCell(f"{row['attack']} ({note})" if note else row["attack"])

    columns = [
        *tables.words(data.notes, label="Model"),
        tables.Column("Attack", attack, numeric=False),
        tables.estimate("AUROC"),
        *(_tpr(metric) for metric in _TPR_METRICS),
        *tables.counts(data.replicated),
    ]
    identity = ["label", "run", "role", "technique", "size", "seed", "step", "name", "params"]
    rates = [f"{metric}_{end}" for metric in _TPR_METRICS for end in _ENDS]
    epsilon = [f"{metric}_value" for metric in _EPSILON_METRICS]
    caption = "Membership: private against held-out records, all tasks together"
    frame = wide[[*identity, *tables.ESTIMATE, *rates, *epsilon]]
    return tables.table("membership", caption, columns, _means(data, wide), frame)


def _means(data: StudyData, rows: pd.DataFrame) -> pd.DataFrame:
    """Returns rows over replicates, with the means of their TPRs."""
    means = over_replicates(data, rows, ["attack"])
    if not data.replicated:
        return means
    for metric in _TPR_METRICS:
        ends = {name: rows[f"{metric}_{name}"] for name in _ENDS}
        columns = {name: f"{metric}_{name}" for name in (*_ENDS, "replicates")}
        rates = over_replicates(data, rows.assign(metric=metric, **ends), ["attack"])
        rates = rates[["label", "attack", *columns]].rename(columns=columns)
        means = means.merge(rates, on=["label", "attack"])
    return means


def _tpr(metric: str) -> tables.Column:
    """A TPR, with the number of its replicates where some have too few records for it."""

    def cell(row: pd.Series) -> tables.TableCell:
        shown = tables.estimate_cell(row, f"{metric}_", style=".1%")
        measured = row.get(f"{metric}_replicates")
        if measured is None or measured == row["replicates"] or pd.isna(row[f"{metric}_value"]):
            return shown
        return tables.TableCell(f"{shown.text} (R = {measured})", shown.key)

    return tables.Column(metric_title(metric), cell)


def _attack_notes(data: StudyData) -> dict[tuple[str, str], str]:
    """Returns what to add to an attack's name, by the label of its row and that name.

    The correction a of `rmia`, the range of it over replicates, and the attack whose ranking it has
    where the rank correlation is at least 0.9999 in every run of the row. Attacks without these
    rows of diagnostics are not there.

    Args:
        data: The study; its private records count.
    """
    rows = data.rows(audit="membership", population="private", task=None, block=None, run_b=None)
    rows = rows[rows["metric"].isin(["a", *_OTHERS])]
    labels = rows["run"].map(data.kinds) if data.replicated else rows["label"]
    found = {}
    for (label, attack), own in rows.groupby([labels, rows["attack"]], sort=False):
        parts = _correction(own[own["metric"] == "a"]["value"])
        for metric, other in _OTHERS.items():
            correlations = own[own["metric"] == metric]["value"]
            if len(correlations) and (correlations >= _SAME_RANKING).all():
                parts.append(f"the ranking of {other}")
        if parts:
            found[str(label), str(attack)] = ", ".join(parts)
    return found


def _correction(values: pd.Series) -> list[str]:
    if not len(values):
        return []
    low, high = float(values.min()), float(values.max())
    return [f"a = {low:g}" if low == high else f"a = {low:g} to {high:g}"]


def any_leak_table(data: StudyData) -> tables.PageTable | None:
    """Returns each model's max-T test over its attacks; of several replicates, how many reject."""
    rows = data.rows(audit="membership", population="private", metric=MAX_T)
    if not len(rows):
        return None
    rows = rows[["unit" not in json.loads(text) for text in rows["params"]]]  # not of subjects
    params = rows["params"].map(json.loads)
    rows = rows.assign(
        attacks=params.map(lambda own: own["attacks"]),
        largest=params.map(lambda own: own.get("largest")),
    )
    named = ["label", "run", "value", "p_value", "largest", "attacks", "n_members", "n_nonmembers"]
    caption = "Does it leak at all? All attacks of a model in one test, which pays for their number"
    shown, columns = (
        rows.assign(strongest=rows["largest"].map(lambda name: attack_title(name) or name)),
        [
            *tables.words(strongest="Strongest attack"),
            tables.number("Standardised AUROC", "value", ".2f"),
            tables.p_value("p (max-T)"),
            *tables.counts(False, attacks="Attacks", n_members="Private", n_nonmembers="Held out"),
        ],
    )
    if data.replicated:
        shown, columns = (
            pd.DataFrame(_rejections(data, rows)),
            [
                *tables.counts(False, runs="Runs", rejected=f"p at most {_LEVEL:g}"),
                tables.p_value("Smallest p", "smallest"),
                tables.p_value("Largest p", "largest"),
                tables.number("Attacks", "attacks"),
            ],
        )
    columns = [*tables.words(data.notes, label="Model"), *columns]
    return tables.table("any_leak", caption, columns, shown, rows[named])


def _rejections(data: StudyData, rows: pd.DataFrame) -> Iterator[dict[str, object]]:
    for kind, runs in rows.groupby(rows["run"].map(data.kinds), sort=False):
        p_values = runs["p_value"]
        yield {
            **{"label": kind, "runs": len(runs), "rejected": (p_values <= _LEVEL).sum()},
            **{"smallest": p_values.min(), "largest": p_values.max()},
            "attacks": runs["attacks"].max(),
        }


def blind_table(data: StudyData) -> tables.PageTable:
    """Returns what the text alone tells; models on the same records share a row."""
    frame = data.blind_rows()
    columns = [
        *tables.words(data.notes, models="Models", verdict="Shifted"),
        tables.estimate("AUROC of the text alone"),
        tables.p_value(),
        *tables.counts(
            False, needed="Records needed a side", n_members="Private", n_nonmembers="Held out"
        ),
    ]
    key = [*tables.ESTIMATE, "p_value", "needed"]
    groups = [same for _, same in frame.groupby(key, dropna=False, sort=False)]
    shown = [
        same.iloc[:1].assign(
            models=_models(data, frame, same),
            verdict={True: "yes", False: "no"}.get(same["shifted"].iloc[0], "not excluded"),
        )
        for same in groups
    ]
    caption = "Baseline: what a reader of the text alone tells who has never seen a model"
    named = frame[["label", "run", "shifted", "p_value", "needed", *tables.ESTIMATE]]
    return tables.table("blind", caption, columns, _joined(shown), named)


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(frames) if frames else pd.DataFrame()


def _models(data: StudyData, every: pd.DataFrame, same: pd.DataFrame) -> str:
    """Names runs by their labels, or as all of the study or of a replicate."""
    if len(same) == len(every):
        return f"all {len(same)}"
    replicates = {cell.alias: cell.replicate for cell in data.cells}
    covered = set(same["run"].map(replicates))
    if len(covered) == 1 and len(same) == every["run"].map(replicates).isin(covered).sum() > 1:
        return f"all {len(same)} of r{covered.pop()}"
    return ", ".join(same["label"])
