"""Rows that compare two runs of a study on the same records."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa

from audits.membership.metrics import OF_SUBJECTS
from audits.results import params_json
from audits.statistics import (
    ComparisonEstimate,
    Estimate,
    auroc,
    paired_difference,
    swap_estimate,
)
from audits.statistics.conditional import AboveCut
from audits.statistics.means import UtilityEstimate
from studies.compare.record_clusters import cluster_ids, record_clusters, record_subjects
from studies.plan.cells import Cell

Attack = tuple[str, str]
Row = dict[str, object]
Clusters = Callable[[Cell], "Mapping[str, int] | None"]
Statistic = TypeVar("Statistic")
Bounded = Estimate | ComparisonEstimate | UtilityEstimate | AboveCut
_IDENTITY = ("run", "role", "family", "size", "technique", "seed", "step")
_LOSSES: Sequence[Attack] = (("loss", "{}"), ("loss", params_json(OF_SUBJECTS)))
# What the difference of two runs' mean log-probabilities is called, by the role of the other run.
_DIFFERENCE_ATTACKS = {
    "counterfactual": "inherited",
    "counterfactual_teacher": "inherited",
    "control": "control_reference",
}


@dataclass(frozen=True)
class AttackScores:
    """One attack's scores on one run: float64, indexed by record."""

    members: pd.Series
    nonmembers: pd.Series


def attack_scores(scores: pd.DataFrame) -> dict[str, dict[Attack, AttackScores]]:
    """Returns each run's scores at its last step, by attack (name, params): whole-model rows only.

    Args:
        scores: The table `scores`.
    """
    whole = scores[scores["block"].isna()]
    last = whole[whole["step"] == whole.groupby("run")["step"].transform("max")]
    found: dict[str, dict[Attack, AttackScores]] = {}
    for (run, name, params), group in last.groupby(["run", "name", "params"], sort=True):
        by_population = {
            population: part.set_index("record")["score"].sort_index()
            for population, part in group.groupby("population")
        }
        if {"private", "held_out"} <= set(by_population):
            found.setdefault(str(run), {})[(str(name), str(params))] = AttackScores(
                by_population["private"], by_population["held_out"]
            )
    return found


def subject_scores(
    done: Sequence[Cell], scores: Mapping[str, Mapping[Attack, AttackScores]]
) -> dict[str, dict[Attack, AttackScores]]:
    """Returns the same scores, and those of subjects, each the mean of its records.

    Args:
        done: The finished cells, whose manifests say whose a record is; without that there is
            nothing to add.
        scores: What :func:`attack_scores` returned.

    Returns:
        Scores of records and, under the attack's params with ``OF_SUBJECTS``, of subjects.
    """
    found = {run: dict(own) for run, own in scores.items()}
    for cell in done:
        subjects = record_subjects(cell)
        for (name, params), one in scores.get(cell.alias, {}).items() if subjects else ():
            sides = [
                side.groupby([subjects.get(record, record) for record in side.index]).mean()
                for side in (one.members, one.nonmembers)
            ]
            attack = name, params_json({**json.loads(params), **OF_SUBJECTS})
            found[cell.alias][attack] = AttackScores(*sides)
    return found


def comparison_pairs(cells: Sequence[Cell]) -> Iterator[tuple[Cell, Cell]]:
    """Yields (run, run_b): what met the private records against what did not, all else equal.

    A teacher goes with its counterfactual teacher, a student with its counterfactual, both of the
    same defence, and with its control.
    """
    for cell in cells:
        for other in cells:
            same = ("family", "replicate", "repeat")
            if any(getattr(cell, name) != getattr(other, name) for name in same):
                continue
            same_size = (cell.size, cell.seed) == (other.size, other.seed)
            same_defence = cell.defence == other.defence
            roles = (cell.role, other.role)
            if (
                (roles == ("teacher", "counterfactual_teacher") and same_defence)
                or (roles == ("student", "control") and same_size)
                or (
                    roles == ("student", "counterfactual")
                    and (same_size and same_defence)
                    and cell.technique == other.technique
                )
            ):
                yield cell, other


def teaching(teachers: Iterable[Cell], cell: Cell) -> list[Cell]:
    """Returns the teachers of a cell's defence, or the undefended ones where it changes none."""
    known = list(teachers)
    own = [teacher for teacher in known if teacher.defence == cell.defence]
    return own or [teacher for teacher in known if teacher.defence is None]


def comparison_rows(
    done: Sequence[Cell],
    results: pa.Table,
    scores: Mapping[str, Mapping[Attack, AttackScores]],
    clusters_of: Clusters | None = None,
) -> Iterator[Row]:
    """Yields the rows of every pair of finished cells that can be compared.

    For every attack `auroc_difference`, and `swap_estimate` where the other run met the other side.
    And the AUROC of the difference of both runs' mean log-probabilities, as attacks of their own:
    `inherited` against the counterfactual, `control_reference` against the control.

    Args:
        done: The finished cells.
        results: Their results, which give the identity columns.
        scores: What :func:`attack_scores` returned.
        clusters_of: Number of each record's cluster, by cell; None asks `record_clusters`.
    """
    identities = run_identities(results)
    for cell, other in comparison_pairs(done):
        clusters = (clusters_of or record_clusters)(cell)
        for attack, runs in scores_of([cell, other], scores):
            a, b = common_records(runs)
            if cell.alias not in identities or not (len(a.members) and len(a.nonmembers)):
                continue
            common = {
                **identities[cell.alias],
                **{"audit": "membership", "population": "private", "run_b": other.alias},
                "skipped": sum(
                    len(ours.index.union(theirs.index)) - len(kept)
                    for ours, theirs, kept in (
                        (runs[0].members, runs[1].members, a.members),
                        (runs[0].nonmembers, runs[1].nonmembers, a.nonmembers),
                    )
                ),
            }
            named = {"name": attack[0], "params": attack[1]}
            estimates = {"auroc_difference": compared(paired_difference, [a, b], clusters)}
            if other.role != "control":
                estimates["swap_estimate"] = compared(swap_estimate, [a, b], clusters)
            for metric, estimate in estimates.items():
                tested = {"metric": metric, "p_value": estimate.p_value}
                yield common | named | tested | bounds(estimate) | counts(estimate)
            if attack in _LOSSES:
                named |= {"name": _DIFFERENCE_ATTACKS[other.role]}
                difference = AttackScores(a.members - b.members, a.nonmembers - b.nonmembers)
                area = compared(auroc, [difference], clusters)
                yield common | named | {"metric": "auroc"} | bounds(area) | counts(area)


def swap_of_runs(
    cell: Cell,
    other: Cell,
    scores: Mapping[str, Mapping[Attack, AttackScores]],
    attack: Attack,
    level: float,
) -> ComparisonEstimate | None:
    """Returns the swap estimate of two runs on the records of both; None where there are none.

    Args:
        cell: A run.
        other: The run that met the other side.
        scores: What :func:`attack_scores` returned.
        attack: By which scores.
        level: Of its interval.
    """
    runs = common_records(dict(scores_of([cell, other], scores)).get(attack, []))
    if not runs or not (len(runs[0].members) and len(runs[0].nonmembers)):
        return None
    return compared(swap_estimate, runs, record_clusters(cell), level=level)


def scores_of(
    cells: Sequence[Cell], scores: Mapping[str, Mapping[Attack, AttackScores]]
) -> Iterator[tuple[Attack, list[AttackScores]]]:
    """Yields every attack that has scores on all of some runs, with those of each."""
    first, *others = (scores.get(cell.alias, {}) for cell in cells)
    for attack, own in first.items():
        if all(attack in other for other in others):
            yield attack, [own, *(other[attack] for other in others)]


def common_records(runs: Sequence[AttackScores]) -> list[AttackScores]:
    """Returns the scores of several runs on the records that all of them scored."""
    if not runs:
        return []
    members, nonmembers = runs[0].members.index, runs[0].nonmembers.index
    for run in runs[1:]:
        members = members.intersection(run.members.index)
        nonmembers = nonmembers.intersection(run.nonmembers.index)
    return [AttackScores(run.members[members], run.nonmembers[nonmembers]) for run in runs]


def compared(
    statistic: Callable[..., Statistic],
    runs: Sequence[AttackScores],
    clusters: Mapping[str, int] | None,
    **options: object,
) -> Statistic:
    """Returns a statistic of one run's scores, or of several runs' on the same records.

    Args:
        statistic: Takes members and non-members of each run, and the clusters of both sides.
        runs: What `common_records` returned.
        clusters: Number of each record's cluster; None where records count as independent.
        options: Further arguments of the statistic.
    """
    sides = [side for run in runs for side in (run.members, run.nonmembers)]
    return statistic(
        *(side.to_numpy(dtype=np.float64) for side in sides),
        member_clusters=cluster_ids(clusters, sides[0].index),
        nonmember_clusters=cluster_ids(clusters, sides[1].index),
        **options,
    )


def run_identities(results: pa.Table) -> dict[str, dict[str, object]]:
    """Returns the identity columns of every run at its last step, by run."""
    latest: dict[str, dict[str, object]] = {}
    distinct = results.group_by(list(_IDENTITY), use_threads=False).aggregate([])
    for row in distinct.to_pylist():
        if row["run"] not in latest or row["step"] > latest[row["run"]]["step"]:
            latest[row["run"]] = row
    return latest


def bounds(estimate: Bounded) -> Row:
    """Returns the columns of an estimate and its interval."""
    return {"value": estimate.value, "lower": estimate.lower, "upper": estimate.upper}


def counts(estimate: Estimate | ComparisonEstimate) -> Row:
    """Returns the columns of how many records an estimate is of."""
    return {"n_members": estimate.n_members, "n_nonmembers": estimate.n_nonmembers}
