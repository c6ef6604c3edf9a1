"""The charts of an audit's page, of one model or of a pair, drawn as a study's are."""

import json
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
import pyarrow as pa

from audits.answer import ModelAnswer
from audits.rows import Audit
from kd_privacy.inheritance import CONDITIONAL, MEMBERS
from studies.report import charts
from studies.report.block_figures import placed, profile_chart
from studies.report.forest import attack_entries, forest
from studies.report.labels import attack_labels
from studies.report.parts import Chart, Choice, Legend, Part, Section
from studies.report.sections.roc import roc_charts, thinned_roc
from studies.report.sections.sets import SETS_HEADING, sets_parts
from studies.report.study_data import BLIND

_OTHERS = "held_out"
_SIDES = {MEMBERS: "members", _OTHERS: "non-members", "never": "never seen"}
_CUT = "Teacher’s token accuracy above"


def chart_groups(
    tables: Mapping[str, pa.Table], models: Sequence[ModelAnswer]
) -> dict[str, list[Section]]:
    """Returns sections of charts, by the question that the page opens them under.

    Args:
        tables: The audit's results and scores.
        models: What is said of each model, for its label and role.
    """
    labels = {one.run: one.label for one in models}
    colours = charts.role_colours({one.label: one.role for one in models})
    results = _named(tables["results"], labels)
    scores = _named(tables["scores"], labels)
    return {
        "Where the risk is": [
            Section("written", "What the model writes", tuple(_written(results))),
            Section("blocks", "Block by block", tuple(_blocks(results, colours))),
        ],
        "By attacker": [
            Section("attacks", "Which attack finds most", tuple(_attacks(results))),
            Section("roc", "ROC curves", tuple(_curves(scores, colours))),
            Section("sets", SETS_HEADING, _sets(results)),
        ],
    }


def _named(table: pa.Table, labels: Mapping[str, str]) -> pd.DataFrame:
    """Returns rows of whole populations, record by record, with `label` and `attack`."""
    frame = table.to_pandas()
    frame = frame[["unit" not in json.loads(params) for params in frame["params"]]]
    return frame.assign(label=frame["run"].map(labels), attack=attack_labels(frame))


def _of(results: pd.DataFrame, audit: str) -> pd.DataFrame:
    """Returns an audit's figures over all tasks that were measured."""
    return results[(results["audit"] == audit) & results["task"].isna() & results["value"].notna()]


def _attacks(results: pd.DataFrame) -> Iterator[Part]:
    """Yields the AUROC of every attack on each model."""
    rows = _of(results, Audit.membership)
    rows = rows[(rows["metric"] == "auroc") & (rows["name"] != BLIND) & rows["run_b"].isna()]
    if len(rows):
        yield Legend("Attacks", attack_entries(rows["attack"]))
        spec = forest(rows, "label", "AUROC, members against non-members", 0.5)
        yield Chart("attacks", spec, "Each attack with its interval; the dashed line is a guess.")


def _sets(results: pd.DataFrame) -> list[Part]:
    """Returns the test of whole sets of records on each model."""
    rows = _of(results, Audit.membership)
    return sets_parts(rows, n_members="Members", n_nonmembers="Non-members")


def _curves(scores: pd.DataFrame, colours: charts.Colours) -> Iterator[Part]:
    """Yields ROC curves: of one model all attacks, of several one attack that is chosen."""
    whole = scores[scores["block"].isna() & scores["population"].isin((MEMBERS, _OTHERS))]
    points = []
    for (label, attack), own in whole.groupby(["label", "attack"], sort=False):
        sides = {name: side["score"].to_numpy() for name, side in own.groupby("population")}
        if len(sides) == len((MEMBERS, _OTHERS)):
            counts = {"n_members": len(sides[MEMBERS]), "n_nonmembers": len(sides[_OTHERS])}
            curve = thinned_roc(sides[MEMBERS], sides[_OTHERS]).round(5)
            points.append(curve.assign(label=str(label), attack=str(attack), **counts))
    if not points:
        return
    rows = pd.concat(points, ignore_index=True)
    attacks = list(dict.fromkeys(rows["attack"]))
    if rows["label"].nunique() == 1:
        rows = rows.assign(label=rows["attack"], attack="every attack")
        solid = [1, 0]
        colours = {name: (own, solid) for name, own in charts.attack_colours(attacks).items()}
    else:
        yield Choice("Attack", "attack", attacks)
    yield Legend("Lines", charts.legend_entries(colours, rows["label"]))
    yield roc_charts(rows, colours)


def _blocks(results: pd.DataFrame, colours: charts.Colours) -> Iterator[Part]:
    """Yields the AUROC of every block under each signal."""
    rows = _of(results, Audit.blocks)
    rows = rows[(rows["metric"] == "auroc") & rows["block"].notna() & rows["run_b"].isna()]
    if len(rows):
        frame = placed(rows).assign(banded=True)
        yield Legend("Models", charts.legend_entries(colours, frame["label"]))
        caption = (
            "How well an attacker who reads a block tells members; not where a record is kept."
        )
        yield Chart("blocks", profile_chart(frame, colours), caption)


def _written(results: pd.DataFrame) -> Iterator[Part]:
    """Yields what samples extract, and what a student writes where its teacher is right."""
    rows = _of(results, Audit.memorization)
    params = [json.loads(text) for text in rows["params"]]
    rows = rows.assign(
        line=rows["label"] + ", " + rows["population"].map(_SIDES),
        **{name: [own.pop(name, None) for own in params] for name in ("tau", "n", "p")},
        scheme=[json.dumps(own) for own in params],
    )
    cut = rows[(rows["name"] == CONDITIONAL) & (rows["metric"] == "token_accuracy")]
    if len(cut):
        caption = "What a teacher writes right is easy: the lines rise for every model and record."
        spec = charts.point_lines(cut, "tau", _CUT, "Token accuracy")
        yield Chart("conditional", spec, caption, "Where the teacher is right")
    drawn = rows[rows["metric"] == "extraction_rate"]
    for number, (scheme, own) in enumerate(drawn.groupby("scheme")):
        chance = own["p"].min()
        spec = charts.point_lines(own[own["p"] == chance], "n", "Samples", "Share of records")
        caption = f"Records that so many samples give word for word, with a chance of {chance:g}."
        given = json.loads(str(scheme))["prefix_tokens"]
        title = f"Drawn by sampling, {given or 'no'} tokens of the answer given"
        yield Chart(f"extraction_{number}", spec, caption, title)
