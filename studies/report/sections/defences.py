"""Defences: risk beside utility, ceilings, what protects and what it costs."""

from collections.abc import Iterator

import altair as alt
import numpy as np
import pandas as pd

from audits.guarantee import AUDIT as GUARANTEE
from audits.guarantee import EPSILON
from common.prose import prose
from studies.claims.verdict import FEWEST_REPLICATES
from studies.report import charts, tables
from studies.report.defence_rows import MEASURES, UNDEFENDED, defence_rows, over_kinds, reading
from studies.report.over_replicates import over_replicates
from studies.report.pareto import pareto_shares
from studies.report.parts import Chart, Pair, Part, Text, section
from studies.report.study_data import StudyData

_SAYS = prose(__file__)
_HALF = 0.5


@section("defences", "Defences")
def defences(data: StudyData) -> Iterator[Part]:
    """Yields charts, what protects and what it costs, and the table; nothing of no defence."""
    guaranteed = data.rows(audit=str(GUARANTEE), metric=EPSILON)
    if guaranteed.empty and not any(cell.defence for cell in data.cells):
        return
    rows = defence_rows(data)
    if rows.empty:
        return
    kinds = over_kinds(rows).merge(
        over_replicates(data, rows).rename(columns={"label": "kind"})[["kind", *tables.ESTIMATE]]
        if data.replicated
        else rows[["kind", *tables.ESTIMATE]],
        on="kind",
    )
    kinds = kinds.assign(
        reading=[reading(row) for row in kinds.to_dict("records")],
        chosen=kinds["defence"].replace(UNDEFENDED, _SAYS["none"]),
        made=kinds["technique"].fillna("").mask(lambda made: made == "", kinds["role"]),
    )
    decided = rows["replicate"].nunique() >= FEWEST_REPLICATES
    caption = _SAYS["caption"].format(
        data.primary_name, _SAYS["decided" if decided else "descriptive"]
    )
    drawn = [
        Chart(
            f"defences_{measure}",
            _chart(known.assign(ringed=_ringed(rows, measure, known)), measure),
            caption,
            _SAYS["titles"][measure],
        )
        for measure in ("rouge_l_f1", "perplexity")
        if len(known := kinds[kinds[measure].notna()])
    ]
    yield Pair(drawn)
    yield from map(Text, _protects(kinds))
    yield from (_table(data, kinds, rows), Text(_SAYS["table"], "caption"))


def _ringed(rows: pd.DataFrame, measure: str, kinds: pd.DataFrame) -> pd.Series:
    """Returns which kinds are students whom no other student beats in both."""
    students = rows[(rows["role"] == "student") & rows[measure].notna()]
    sign = -1.0 if measure == "perplexity" else 1.0
    shares = pareto_shares(
        pd.DataFrame(
            {
                **{"label": students["kind"], "replicate": students["replicate"]},
                **{"risk": students["value"], "utility": sign * students[measure]},
            }
        )
    )
    return kinds["kind"].map(shares).ge(_HALF)


def _protects(kinds: pd.DataFrame) -> Iterator[str]:
    """Yields a sentence for every defended student: what it promises, and what it costs."""
    students = kinds[kinds["role"] == "student"]
    plain = students[students["defence"] == UNDEFENDED].drop_duplicates("technique")
    undefended = {row["technique"]: row for row in plain.to_dict("records")}
    for row in students[students["defence"] != UNDEFENDED].to_dict("records"):
        other = undefended.get(row["technique"])
        risk = f"{row['value']:.3f}"
        cost = _SAYS["no_cost"]
        if other is not None:
            risk += f", {_SAYS['beside'].format(row['value'] - other['value'])}"
            if np.isfinite(row["perplexity"]) and np.isfinite(other["perplexity"]):
                cost = _SAYS["cost"].format(row["perplexity"] / other["perplexity"])
        told = row["guarantee"] or _SAYS["no_guarantee"]
        yield _SAYS["protects"].format(row["kind"], row["reading"], told, risk, cost)


def _table(data: StudyData, kinds: pd.DataFrame, rows: pd.DataFrame) -> tables.PageTable:
    shown = kinds.assign(
        defence=kinds["defence"].replace(UNDEFENDED, _SAYS["none"]),
        guarantee=kinds["guarantee"].replace("", np.nan),
    )
    columns = [
        *tables.words(data.notes, kind="Model"),
        *tables.words(defence="Defence", reading="Read as", guarantee="Guarantee"),
        tables.estimate("AUROC"),
        tables.number("Ceiling", "auroc_upper", ".3f"),
        tables.number("Found at 1 per 100", "tpr", ".1%"),
        tables.number("Ceiling of it", "tpr_upper", ".1%"),
        tables.number("Coins told by text", "accuracy_upper", ".1%"),
        tables.number("Token accuracy gap", "gap", "+.3f"),
        tables.number("ε at least", "epsilon_lower", ".2f"),
        tables.number("μ at least", "mu_lower", ".2f"),
        *(
            tables.number(title, name, style)
            for title, name, style in zip(
                ("Perplexity", "ROUGE-L", "KL from the teacher"),
                MEASURES,
                (".1f", ".3f", ".3f"),
                strict=True,
            )
        ),
        *tables.counts(replicated=False),
    ]
    kept = [
        *("run", "kind", "role", "replicate", "defence", "technique", "guarantee", "holds"),
        *("learnt", *MEASURES, "tpr", "tpr_upper", "gap", "epsilon_lower", "mu_lower"),
        *("auroc_upper", "unit_lower", "accuracy_upper", *tables.ESTIMATE),
    ]
    return tables.table("defences", _SAYS["title"], columns, shown, rows[kept], apart=False)


def _chart(rows: pd.DataFrame, measure: str) -> charts.Spec:
    """AUROC with interval against utility, a tick at each ceiling, the undominated ringed.

    Colours are defences, shapes the teacher and what its students learn by.
    """
    log = measure == "perplexity"
    used = [*("kind", "chosen", "made"), measure, "auroc_upper", "ringed", "reading"]
    named = rows[[*used, *tables.ESTIMATE]].rename(columns={"kind": "label"})
    colours = charts.attack_colours(list(dict.fromkeys(named["chosen"])))
    # One above and one below: side by side they are wider than a telephone.
    defences_below, runs_above = (
        alt.Legend(orient=place, columns=3, labelLimit=200) for place in ("bottom", "top")
    )
    scale = {"type": "log"} if log else {"zero": False}
    risk = alt.Scale(zero=False, padding=16, nice=False)
    base = alt.Chart(named).encode(
        x=alt.X(
            f"{measure}:Q",
            title=_SAYS["axes"][measure],
            scale=alt.Scale(padding=24, nice=False, **scale),
            axis=alt.Axis(tickCount=5, format="~s" if log else ".2~f"),
        ),
        color=alt.Color("chosen:N", title=_SAYS["chosen"], legend=defences_below).scale(
            domain=list(colours), range=list(colours.values())
        ),
        tooltip=charts.tooltips(
            *(("label:N", "Run"), ("reading:N", "Read as"), ("auroc_upper:Q", "Ceiling", ".3f")),
            (f"{measure}:Q", _SAYS["axes"][measure], ".4~g"),
        ),
    )
    bars = base.mark_rule(strokeWidth=2, opacity=0.75).encode(
        y=alt.Y("lower:Q", title="AUROC"), y2="upper:Q"
    )
    y = alt.Y("value:Q", title="AUROC", scale=risk)
    points = base.mark_point(filled=True, size=80, opacity=1).encode(
        y=y,
        shape=alt.Shape(
            "made:N",
            title=_SAYS["made"],
            legend=runs_above,
            sort=list(dict.fromkeys(named["made"])),
        ),
    )
    rings = base.mark_point(size=240, strokeWidth=2).encode(y=y).transform_filter("datum.ringed")
    ticks = (
        base.mark_tick(orient="horizontal", thickness=3, size=22)
        .encode(y=alt.Y("auroc_upper:Q", title="AUROC"))
        .transform_filter("isValid(datum.auroc_upper)")
    )
    layers = (charts.null_line(0.5, "y"), bars, points, rings, ticks)
    return charts.chart_spec(alt.layer(*layers), height=320)
