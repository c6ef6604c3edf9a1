"""Rows that compare two runs of a study on the same records."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from audits.statistics import (
    ComparisonEstimate,
    Estimate,
    auroc,
    paired_difference,
    swap_estimate,
)
from datamodules.manifest import MANIFEST_NAME, read_manifest
from studies.plan.cells import Cell

__all__ = [
    "AttackScores",
    "attack_scores",
    "comparison_pairs",
    "comparison_rows",
    "has_manifest",
    "manifest_of",
    "record_clusters",
    "run_identities",
    "swap_of_runs",
]

Attack = tuple[str, str]
_IDENTITY = ("run", "role", "family", "size", "technique", "seed", "step")
_LOSS: Attack = ("loss", "{}")
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


def comparison_pairs(cells: Sequence[Cell]) -> Iterator[tuple[Cell, Cell]]:
    """Yields (run, run_b): what met the private records against what did not, all else equal.

    A teacher goes with its counterfactual teacher, a student with its counterfactual and control.
    """
    for cell in cells:
        for other in cells:
            same = ("family", "replicate", "repeat")
            if any(getattr(cell, name) != getattr(other, name) for name in same):
                continue
            same_size = (cell.size, cell.seed) == (other.size, other.seed)
            roles = (cell.role, other.role)
            if (
                roles == ("teacher", "counterfactual_teacher")
                or (roles == ("student", "control") and same_size)
                or (
                    roles == ("student", "counterfactual")
                    and same_size
                    and cell.technique == other.technique
                )
            ):
                yield cell, other


def comparison_rows(
    done: Sequence[Cell],
    results: pa.Table,
    scores: Mapping[str, Mapping[Attack, AttackScores]],
) -> Iterator[dict[str, object]]:
    """Yields the rows of every pair of finished cells that can be compared.

    For every attack `auroc_difference`, and `swap_estimate` where the other run met the other side.
    And the AUROC of the difference of both runs' mean log-probabilities, as attacks of their own:
    `inherited` against the counterfactual, `control_reference` against the control.

    Args:
        done: The finished cells.
        results: Their results, which give the identity columns.
        scores: What :func:`attack_scores` returned.
    """
    identities = run_identities(results)
    for cell, other in comparison_pairs(done):
        theirs = scores.get(other.alias, {})
        clusters = record_clusters(cell)
        for attack, ours in scores.get(cell.alias, {}).items():
            if attack not in theirs or cell.alias not in identities:
                continue
            a, b, dropped = _common_records(ours, theirs[attack])
            if not (len(a.members) and len(a.nonmembers)):
                continue
            sides = _Sides(a, b, clusters)
            common = {
                **identities[cell.alias],
                "audit": "membership",
                "population": "private",
                "run_b": other.alias,
                "skipped": dropped,
            }
            named = {"name": attack[0], "params": attack[1]}
            estimates = {"auroc_difference": sides.compared(paired_difference)}
            if other.role != "control":
                estimates["swap_estimate"] = sides.compared(swap_estimate)
            for metric, estimate in estimates.items():
                p_value = {"p_value": estimate.p_value}
                yield common | named | {"metric": metric} | _columns(estimate) | p_value
            if attack == _LOSS:
                named = {"name": _DIFFERENCE_ATTACKS[other.role], "params": "{}"}
                yield common | named | {"metric": "auroc"} | _columns(sides.difference_auroc())


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
    ours, theirs = (scores.get(one.alias, {}).get(attack) for one in (cell, other))
    if ours is None or theirs is None:
        return None
    a, b, _ = _common_records(ours, theirs)
    if not (len(a.members) and len(a.nonmembers)):
        return None
    return _Sides(a, b, record_clusters(cell)).compared(swap_estimate, level)


@dataclass(frozen=True)
class _Sides:
    """Scores of two runs on the same records, and the records' near-duplicate clusters.

    `clusters` is None where the run's private folder is not at hand: records then count as
    independent.
    """

    a: AttackScores
    b: AttackScores
    clusters: Mapping[str, int] | None

    def compared(
        self, statistic: Callable[..., ComparisonEstimate], level: float = 0.95
    ) -> ComparisonEstimate:
        sides = (self.a.members, self.a.nonmembers, self.b.members, self.b.nonmembers)
        ours, theirs = self._numbers(self.a.members), self._numbers(self.a.nonmembers)
        return statistic(
            *(_values(side) for side in sides),
            level=level,
            member_clusters=ours,
            nonmember_clusters=theirs,
        )

    def difference_auroc(self) -> Estimate:
        members = _values(self.a.members) - _values(self.b.members)
        nonmembers = _values(self.a.nonmembers) - _values(self.b.nonmembers)
        ours, theirs = self._numbers(self.a.members), self._numbers(self.a.nonmembers)
        return auroc(members, nonmembers, member_clusters=ours, nonmember_clusters=theirs)

    def _numbers(self, side: pd.Series) -> NDArray[np.int64] | None:
        if self.clusters is None:
            return None
        return np.array([self.clusters[record] for record in side.index], dtype=np.int64)


def _values(side: pd.Series) -> NDArray[np.float64]:
    return side.to_numpy(dtype=np.float64)


def record_clusters(cell: Cell) -> dict[str, int] | None:
    """Returns the number of each record's cluster, from the manifest of the cell's split.

    Clusters are found before records are dealt, and their number is a hash of their name, so a
    number means the same cluster in every split of a study.
    """
    if not has_manifest(cell):
        return None
    rows = read_manifest(manifest_of(cell))
    numbers = {name: _number(name) for name in {row.cluster for row in rows}}
    return {row.id: numbers[row.cluster] for row in rows}


def has_manifest(cell: Cell) -> bool:
    """Returns whether the manifest of a cell's split, which names the clusters, is at hand."""
    return manifest_of(cell).is_file()


def manifest_of(cell: Cell) -> Path:
    """Returns where the manifest of a cell's split lies where it is at hand."""
    return Path(cell.run_dir) / "private" / MANIFEST_NAME


def _number(name: str) -> int:
    digest = hashlib.blake2b(name.encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")


def run_identities(results: pa.Table) -> dict[str, dict[str, object]]:
    """Returns the identity columns of every run at its last step, by run."""
    latest: dict[str, dict[str, object]] = {}
    for row in results.select(list(_IDENTITY)).to_pylist():
        if row["run"] not in latest or row["step"] > latest[row["run"]]["step"]:
            latest[row["run"]] = row
    return latest


def _common_records(
    ours: AttackScores, theirs: AttackScores
) -> tuple[AttackScores, AttackScores, int]:
    members = ours.members.index.intersection(theirs.members.index)
    nonmembers = ours.nonmembers.index.intersection(theirs.nonmembers.index)
    total = len(ours.members.index.union(theirs.members.index)) + len(
        ours.nonmembers.index.union(theirs.nonmembers.index)
    )
    return (
        AttackScores(ours.members[members], ours.nonmembers[nonmembers]),
        AttackScores(theirs.members[members], theirs.nonmembers[nonmembers]),
        total - len(members) - len(nonmembers),
    )


def _columns(estimate: Estimate | ComparisonEstimate) -> dict[str, object]:
    return {
        "value": estimate.value,
        "lower": estimate.lower,
        "upper": estimate.upper,
        "n_members": estimate.n_members,
        "n_nonmembers": estimate.n_nonmembers,
    }
