"""Whether membership and memorization name the same techniques, and the same records.

Techniques are compared over replicates: with fewer than two there is neither an interval nor a
test, and the statement stays undecided. Records are compared within each student, by what it has
more than its counterfactual. Membership is that of the study's primary attack, which every row
names.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from audits.statistics.agreement import crossings, ranking_agreement, top_overlap
from audits.statistics.replication import ReplicateEstimate
from studies.compare.comparisons import AttackScores, Row, common_records, scores_of
from studies.compare.memorization import PRIVATE, Accuracies
from studies.compare.primary_attack import Attack
from studies.plan.cells import Cell

STUDY_RUN = "study"
"""`run` and `role` of rows about techniques, which belong to no single run."""

_TOP_SHARES = (0.01, 0.05, 0.1)
Scores = Mapping[str, Mapping[tuple[str, str], AttackScores]]


def disagreement_rows(
    accuracies: Accuracies, comparisons: Sequence[Mapping[str, object]], attack: Attack
) -> Iterator[Row]:
    """Yields Kendall's tau with its ceilings, and every pair of techniques with its crossing test.

    Membership of a technique in a replicate is its swap estimate, memorization its excess of token
    accuracy on private records, both the mean over student seeds and repeats. Compared are the
    undefended techniques that have both somewhere, over the replicates in which all of them do.

    Args:
        accuracies: Token accuracies.
        comparisons: Rows of pairs of runs: swap estimates, and excess of the same parameters.
        attack: The study's primary attack.
    """
    figures = _technique_figures(accuracies, comparisons, attack)
    for (family, size), table in figures.groupby(["family", "size"]):
        means = table.groupby(["replicate", "technique"])[["membership", "memorization"]].mean()
        wide = [means[name].unstack().dropna(axis=1, how="all") for name in means]
        common = wide[0].columns.intersection(wide[1].columns)
        both = pd.concat([one[common] for one in wide], axis=1, keys=list(means)).dropna()
        if len(common) < 2 or not len(both):
            continue
        techniques = [str(name) for name in common]
        x, y = (both[name].to_numpy(dtype=np.float64) for name in means)
        shared: Row = {
            **{"run": STUDY_RUN, "role": STUDY_RUN, "family": family, "size": size, "step": 0},
            **{"audit": "memorization", "population": PRIVATE, "name": "disagreement"},
        }
        params = {**accuracies.params, "attack": attack[0], "replicates": len(both)}
        for row in [*_ranking_rows(x, y), *_crossing_rows(x, y, techniques)]:
            own = row.pop("params", {})
            yield shared | row | {"params": {**params, **(own if isinstance(own, dict) else {})}}


def _technique_figures(
    accuracies: Accuracies, comparisons: Sequence[Mapping[str, object]], attack: Attack
) -> pd.DataFrame:
    """Returns membership and memorization of every student with a counterfactual."""
    found: dict[tuple[object, object, str], float] = {}
    for row in comparisons:
        value = row.get("value")
        if row["population"] == PRIVATE and isinstance(value, float):
            if (row["name"], row["params"]) == attack and row["metric"] == "swap_estimate":
                found[row["run"], row["run_b"], "membership"] = value
            if row["metric"] == "token_accuracy_gap_excess" and row["params"] == accuracies.params:
                found[row["run"], row["run_b"], "memorization"] = value
    identity = ("family", "size", "technique", "replicate")
    measures = ("membership", "memorization")
    students = [
        {
            **{name: getattr(cell, name) for name in identity},
            **{name: found.get((cell.alias, other.alias, name), math.nan) for name in measures},
        }
        for cell, other in accuracies.pairs()
        if (cell.role, other.role) == ("student", "counterfactual") and cell.defence is None
    ]
    return pd.DataFrame(students, columns=[*identity, *measures])


def _ranking_rows(x: np.ndarray, y: np.ndarray) -> Iterator[Row]:
    found = ranking_agreement(x, y)
    yield {"metric": "kendall_tau", "value": found.tau}
    yield {"metric": "kendall_ceiling_membership", "value": found.membership_ceiling}
    yield {"metric": "kendall_ceiling_memorization", "value": found.memorization_ceiling}


def _crossing_rows(x: np.ndarray, y: np.ndarray, techniques: Sequence[str]) -> Iterator[Row]:
    """Yields both differences of every pair; the p-value, in both rows, is the crossing's."""
    for one in crossings(x, y):
        params = {"a": techniques[one.a], "b": techniques[one.b]}
        for metric, difference in (
            ("crossing_membership", one.membership),
            ("crossing_memorization", one.memorization),
        ):
            yield {
                "metric": metric,
                "params": params,
                **_finite(difference),
                "p_value": one.p_value,
            }


def _finite(found: ReplicateEstimate) -> Row:
    """Returns an estimate's columns; one replicate, or several that all agree, has no interval."""
    return {
        "value": found.value,
        "lower": found.lower if found.has_interval else None,
        "upper": found.upper if found.has_interval else None,
    }


def overlap_rows(accuracies: Accuracies, scores: Scores, attack: Attack) -> Iterator[Row]:
    """Yields, per student, how many of its most exposed private records both measures name.

    Beside each overlap stand that of chance and, as ceilings, the overlap of each measure with
    itself between two seeds of the same student, or two repeats of its teacher and itself; null
    with one of each.

    Args:
        accuracies: Token accuracies.
        scores: What `attack_scores` returned.
        attack: The study's primary attack.
    """
    found = [
        (cell, other, membership, accuracies.excess(cell, other, PRIVATE))
        for cell, other in accuracies.pairs()
        if (cell.role, other.role) == ("student", "counterfactual")
        and (membership := _membership_excess(scores, cell, other, attack)) is not None
    ]
    for cell, other, membership, memorization in found:
        twins = [one for one in found if _is_twin(one[0], cell)]
        for share in _TOP_SHARES:
            params = {**accuracies.params, "attack": attack[0], "share": share}
            row = accuracies.row(cell, "overlap", "", run_b=other.alias, params=params)
            a, b = _aligned(membership, memorization)
            if not len(a):
                continue
            both = top_overlap(a, b, share)
            yield row | {"metric": "top_overlap", "value": both.value, "n_members": both.n}
            yield row | {"metric": "top_overlap_chance", "value": both.chance}
            for name, own, theirs in (
                ("membership", membership, [one[2] for one in twins]),
                ("memorization", memorization, [one[3] for one in twins]),
            ):
                ceilings = [top_overlap(*_aligned(own, twin), share).value for twin in theirs]
                ceiling = float(np.mean(ceilings)) if ceilings else None
                yield row | {"metric": f"top_overlap_ceiling_{name}", "value": ceiling}


def _membership_excess(scores: Scores, cell: Cell, other: Cell, attack: Attack) -> pd.Series | None:
    """Returns a student's scores of private records minus its counterfactual's."""
    runs = common_records(dict(scores_of([cell, other], scores)).get(attack, []))
    return runs[0].members - runs[1].members if runs else None


def _is_twin(one: Cell, cell: Cell) -> bool:
    """Whether two students differ in nothing but their seed, or their teacher's and their own."""
    same = ("family", "size", "technique", "replicate", "stage")
    return one.seed != cell.seed and all(getattr(one, n) == getattr(cell, n) for n in same)


def _aligned(a: pd.Series, b: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    common = a.index.intersection(b.index)
    return a[common].to_numpy(dtype=np.float64), b[common].to_numpy(dtype=np.float64)
