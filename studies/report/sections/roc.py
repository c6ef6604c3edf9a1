"""ROC curves of every kind of run under a chosen attack, on linear and on logarithmic axes."""

from collections.abc import Iterator, Sequence

import altair as alt
import numpy as np
import pandas as pd

from audits.membership.roc import roc_points
from common.prose import prose
from studies.compare.comparisons import AttackScores
from studies.report import charts
from studies.report.parts import Chart, Choice, Legend, Pair, Part, section
from studies.report.study_data import StudyData

_ROC_POINTS = 60
_SAYS = prose(__file__)


@section("roc", "ROC curves")
def roc(data: StudyData) -> Iterator[Part]:
    """Yields the curves, and the choice of the attack."""
    rows = roc_rows(data)
    if not len(rows):
        return
    colours = charts.label_colours(data, data.kinds)
    yield Choice("Attack", "attack", list(dict.fromkeys(data.auroc_rows()["attack"])))
    yield Legend("Runs", charts.legend_entries(colours))
    yield roc_charts(rows, colours, _SAYS["means"] if data.replicated else "")


def roc_charts(rows: pd.DataFrame, colours: charts.Colours, more: str = "") -> Pair:
    """Returns ROC curves on both kinds of axes.

    Args:
        rows: Points: `label`, `attack`, `fpr`, `tpr` and the counts. A `Choice` of the parameter
            `attack` chooses among several attacks.
        colours: Colour and dash of each label.
        more: Added to what the first chart says.
    """
    linear = _curves(rows, colours, log=False)
    log = _curves(rows, colours, log=True)
    return Pair(
        (
            Chart("roc", linear, f"{_SAYS['linear']}{more}", "Linear"),
            Chart("roc_log", log, _SAYS["log"], "Logarithmic"),
        )
    )


def roc_rows(data: StudyData) -> pd.DataFrame:
    """Returns ROC points of each kind of run and attack: label, attack, fpr, tpr and the counts.

    Of several replicates the curve is their mean, and the counts are the fewest of any.
    """
    names = data.results.drop_duplicates(["name", "params"]).set_index(["name", "params"])["attack"]
    repeats: dict[tuple[str, tuple[str, str]], list[AttackScores]] = {}
    for cell in data.cells:
        for key, scores in data.scores.get(cell.alias, {}).items():
            repeats.setdefault((data.kinds[cell.alias], key), []).append(scores)
    frames = []
    for (kind, key), runs in repeats.items():
        sides = [(scores.members.to_numpy(), scores.nonmembers.to_numpy()) for scores in runs]
        points = thinned_roc(*sides[0]) if len(sides) == 1 else mean_roc(sides)
        frames.append(
            points.round(5).assign(
                label=kind,
                attack=names.get(key, key[0]),
                n_members=min(len(members) for members, _ in sides),
                n_nonmembers=min(len(nonmembers) for _, nonmembers in sides),
            )
        )
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def thinned_roc(members: np.ndarray, nonmembers: np.ndarray) -> pd.DataFrame:
    """Returns about 120 points of the empirical ROC curve: `fpr` and `tpr` in [0, 1].

    Points are spread evenly in FPR and in its logarithm; the first and the last stay.

    Args:
        members: Scores [n], float64.
        nonmembers: Scores [m], float64.
    """
    fpr, tpr = roc_points(members, nonmembers)
    even = np.linspace(0, 1, _ROC_POINTS)
    wanted = np.concatenate([even, np.geomspace(1 / len(nonmembers), 1, _ROC_POINTS)])
    # The last point at or below each wanted FPR is the highest TPR that this FPR allows.
    kept = np.unique(np.searchsorted(fpr, wanted, side="right") - 1)
    kept = np.union1d(kept, [0, len(fpr) - 1])
    return pd.DataFrame({"fpr": fpr[kept], "tpr": tpr[kept]})


def mean_roc(sides: Sequence[tuple[np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """Returns the mean of several ROC curves at the same FPRs (Fawcett 2006, vertical averaging).

    Args:
        sides: Scores of members [n] and of non-members [m] of each run, float64.
    """
    fewest = min(len(nonmembers) for _, nonmembers in sides)
    fpr = np.union1d(
        np.linspace(0, 1, _ROC_POINTS // 2), np.geomspace(1 / fewest, 1, _ROC_POINTS // 2)
    )
    curves = []
    for members, nonmembers in sides:
        run_fpr, run_tpr = roc_points(members, nonmembers)
        curves.append(run_tpr[np.searchsorted(run_fpr, fpr, side="right") - 1])
    return pd.DataFrame({"fpr": fpr, "tpr": np.mean(curves, axis=0)})


def _curves(rows: pd.DataFrame, colours: charts.Colours, *, log: bool) -> charts.Spec:
    """Curves of the attack that the parameter `attack` names, which the page sets."""
    shown = rows[(rows["fpr"] > 0) & (rows["tpr"] > 0)] if log else rows
    low = float(shown[["fpr", "tpr"]].min().min()) if log else 0.0
    scale = alt.Scale(type="log", domain=[low, 1]) if log else alt.Scale(domain=[0, 1])
    axis = alt.Axis(format="~%", tickCount=4 if log else 5)
    present = set(rows["label"])
    labels = [label for label in colours if label in present]
    # The page has one legend for both panels, beside the choice of the attack.
    attack = alt.param(name="attack", value=str(rows["attack"].iloc[0]))
    lines = (
        alt.Chart(shown)
        .mark_line(interpolate="step-after", strokeWidth=2, clip=True)
        .encode(
            x=alt.X("fpr:Q", title="False positive rate", scale=scale, axis=axis),
            y=alt.Y("tpr:Q", title="True positive rate", scale=scale, axis=axis),
            color=charts.label_colour(labels, colours),
            strokeDash=charts.label_dash(labels, colours),
            order="fpr:Q",
            tooltip=charts.tooltips(
                *(("label:N", "Run"), ("fpr:Q", "FPR", ".2%"), ("tpr:Q", "TPR", ".2%")),
                *(("n_members:Q", "Members"), ("n_nonmembers:Q", "Non-members")),
                estimate=False,
            ),
        )
        .transform_filter("datum.attack === attack")
    )
    points = pd.DataFrame({"fpr": [low, 1.0], "tpr": [low, 1.0]})
    chance = (
        alt.Chart(points)
        .mark_line(strokeDash=[4, 4], strokeWidth=1, color=charts.NEUTRAL)
        .encode(x="fpr:Q", y="tpr:Q")
    )
    return charts.chart_spec(alt.layer(chance, lines).add_params(attack), height=340)
