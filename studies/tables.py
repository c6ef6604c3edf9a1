"""A study's tables: the merge of its cells' tables, and the rows that compare two runs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from callbacks.results import merge_runs, read_table, table_from_rows, write_table
from callbacks.statistics import ComparisonEstimate, paired_difference, swap_estimate
from studies.cell_state import CellFiles
from studies.plan import Cell, Plan

__all__ = ["AttackScores", "attack_scores", "comparison_pairs", "write_study_tables"]

Attack = tuple[str, str]
_IDENTITY = ("run", "role", "family", "size", "technique", "seed", "step")


@dataclass(frozen=True)
class AttackScores:
    """One attack's scores on one run: float64, indexed by record."""

    members: pd.Series
    nonmembers: pd.Series


def write_study_tables(plan: Plan, out: Path) -> list[Cell]:
    """Writes `results.parquet`, `scores.parquet` and `memorization.parquet` of a study.

    The results are those of the finished cells and, after them, the rows that compare two runs:
    `auroc_difference` (run minus run_b, on the same records) and `swap_estimate`.

    Returns:
        The cells that are done.
    """
    done = [cell for cell in plan.cells if CellFiles(cell).state() == "done"]
    merge_runs([cell.run_dir for cell in done], out)
    results = read_table(out, "results")
    scores = read_table(out, "scores").to_pandas()
    rows = list(_comparison_rows(done, results, attack_scores(scores)))
    write_table(
        pa.concat_tables([results, table_from_rows("results", rows)]), out / "results.parquet"
    )
    return done


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
            if (cell.family, cell.replicate) != (other.family, other.replicate):
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


def _comparison_rows(
    done: Sequence[Cell],
    results: pa.Table,
    scores: Mapping[str, Mapping[Attack, AttackScores]],
) -> Iterator[dict[str, object]]:
    identities = _identities(results)
    for cell, other in comparison_pairs(done):
        theirs = scores.get(other.alias, {})
        for attack, ours in scores.get(cell.alias, {}).items():
            if attack not in theirs or cell.alias not in identities:
                continue
            a, b, dropped = _common_records(ours, theirs[attack])
            if not (len(a.members) and len(a.nonmembers)):
                continue
            estimates = {"auroc_difference": _compared(paired_difference, a, b)}
            if other.role != "control":
                estimates["swap_estimate"] = _compared(swap_estimate, a, b)
            for metric, estimate in estimates.items():
                yield {
                    **identities[cell.alias],
                    "audit": "membership",
                    "population": "private",
                    "name": attack[0],
                    "params": attack[1],
                    "metric": metric,
                    "run_b": other.alias,
                    "skipped": dropped,
                    **_estimate_columns(estimate),
                }


def _identities(results: pa.Table) -> dict[str, dict[str, object]]:
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


def _compared(
    statistic: Callable[..., ComparisonEstimate], a: AttackScores, b: AttackScores
) -> ComparisonEstimate:
    sides = (a.members, a.nonmembers, b.members, b.nonmembers)
    return statistic(*(side.to_numpy(dtype=np.float64) for side in sides))


def _estimate_columns(estimate: ComparisonEstimate) -> dict[str, object]:
    return {
        "value": estimate.value,
        "lower": estimate.lower,
        "upper": estimate.upper,
        "p_value": estimate.p_value,
        "n_members": estimate.n_members,
        "n_nonmembers": estimate.n_nonmembers,
    }
