"""Rows that tell what of a student's memorization came through its teacher.

All of them read the memorization table's token accuracy, record by record, after the runs: none is
part of a fit.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from audits.statistics.conditional import (
    TAUS,
    TaughtRecords,
    conditional_mean,
    difference_in_differences,
)
from audits.statistics.means import UtilityEstimate, gap, share_interval
from common.roles import TAUGHT_ROLES
from studies.compare.comparisons import (
    Clusters,
    Row,
    bounds,
    comparison_pairs,
    run_identities,
    teaching,
)
from studies.compare.record_clusters import cluster_ids, record_clusters
from studies.plan.cells import Cell

TOKEN_ACCURACY = "token_accuracy"
PRIVATE, HELD_OUT, NEVER = "private", "held_out", "never"
RecordValues = dict[str, dict[str, dict[str, pd.Series]]]


@dataclass(frozen=True)
class Accuracies:
    """Token accuracy, or another share, of a study's finished cells under one set of parameters.

    Attributes:
        cells: The cells that have it.
        params: Parameters of the measure, such as the number of tokens.
        values: Share by record, of each run and population.
        identities: Identity columns of each run.
        clusters: Number of each record's near-duplicate cluster, of each run, alike in all splits;
            None where its private folder is not at hand, and records count as independent.
    """

    cells: tuple[Cell, ...]
    params: dict[str, object]
    values: Mapping[str, Mapping[str, pd.Series]]
    identities: Mapping[str, Mapping[str, object]]
    clusters: Mapping[str, Mapping[str, int] | None]

    def pairs(self) -> Iterator[tuple[Cell, Cell]]:
        """Yields what met the private records with what did not, all else equal."""
        yield from comparison_pairs(self.cells)

    def teachers(self, cell: Cell) -> list[Cell]:
        """Returns a cell's teachers of the private side: of its family, replicate and repeat."""
        same = ("family", "replicate", "repeat")
        teachers = (
            other
            for other in self.cells
            if other.role == "teacher" and all(getattr(other, n) == getattr(cell, n) for n in same)
        )
        return teaching(teachers, cell)

    def excess(self, cell: Cell, other: Cell, population: str) -> pd.Series:
        """Returns one run's accuracy minus another's on the records of both; may be empty."""
        ours, theirs = self.of(cell, population), self.of(other, population)
        common = ours.index.intersection(theirs.index)
        return ours[common] - theirs[common]

    def of(self, cell: Cell, population: str) -> pd.Series:
        """Returns a run's accuracy by record; empty where it was not measured."""
        return self.values[cell.alias].get(population, pd.Series(dtype=np.float64))

    def cluster_ids(self, cells: Iterable[Cell], records: pd.Index) -> NDArray[np.int64] | None:
        """Returns the clusters of records in the order given.

        Args:
            cells: Runs whose splits together hold the records.
            records: Their ids.
        """
        known: dict[str, int] = {}
        for cell in cells:
            clusters = self.clusters[cell.alias]
            if clusters is None:
                return None
            known |= clusters
        return cluster_ids(known, records)

    def row(self, cell: Cell, name: str, metric: str, **more: object) -> Row:
        """Starts a row of the results table."""
        shared = {"audit": "memorization", "population": PRIVATE, "name": name, "metric": metric}
        return {**self.identities[cell.alias], **shared, "params": self.params, **more}


def record_values(memorization: pd.DataFrame, name: str) -> RecordValues:
    """Returns values by record at each run's last step: params -> run -> population -> values.

    Args:
        memorization: The table.
        name: The measure.
    """
    rows = memorization[(memorization["name"] == name) & memorization["value"].notna()]
    last = rows[rows["step"] == rows.groupby("run")["step"].transform("max")]
    found: RecordValues = {}
    for (params, run, population), group in last.groupby(["params", "run", "population"]):
        values = group.set_index("record")["value"].sort_index()
        found.setdefault(str(params), {}).setdefault(str(run), {})[str(population)] = values
    return found


def read_accuracies(
    done: Sequence[Cell],
    results: pa.Table,
    memorization: pd.DataFrame,
    name: str = TOKEN_ACCURACY,
    clusters_of: Clusters | None = None,
) -> list[Accuracies]:
    """Returns the token accuracies of a study, or another measure, by set of parameters."""
    identities = run_identities(results)
    found = []
    for params, values in record_values(memorization, name).items():
        cells = tuple(c for c in done if c.alias in values and c.alias in identities)
        clusters = {cell.alias: (clusters_of or record_clusters)(cell) for cell in cells}
        found.append(Accuracies(cells, json.loads(params), values, identities, clusters))
    return found


def memorization_rows(accuracies: Accuracies) -> Iterator[Row]:
    """Yields the excess over the other run of each pair, the conditional curves and their DiD."""
    for cell, other in accuracies.pairs():
        yield from _gap_rows(accuracies, cell, other)
        if (cell.role, other.role) == ("student", "counterfactual"):
            yield from _did_rows(accuracies, cell, other)
    for cell in accuracies.cells:
        if cell.role in TAUGHT_ROLES:
            yield from curve_rows(accuracies, cell)


def _gap_rows(accuracies: Accuracies, cell: Cell, other: Cell) -> Iterator[Row]:
    """Yields `token_accuracy_excess` by population, and the difference of the gaps of two runs.

    `token_accuracy_gap_excess` is the gap between private and held-out records under one run minus
    that under the other; under the swap both sides count, the held-out records with the roles of
    the runs exchanged. It is what the study's claims read: an excess on private records alone is
    also that of a better writer.
    """
    means = mean_excesses(accuracies, cell, other)
    yield from excess_rows(accuracies, cell, other, means, TOKEN_ACCURACY, "token_accuracy_excess")
    if {PRIVATE, HELD_OUT} <= set(means):
        metric = "token_accuracy_gap_excess"
        yield accuracies.row(cell, TOKEN_ACCURACY, metric, run_b=other.alias) | {
            **bounds(gap(means[PRIVATE], means[HELD_OUT])),
            "n_members": means[PRIVATE].n,
            "n_nonmembers": means[HELD_OUT].n,
        }


def excess_rows(
    accuracies: Accuracies,
    cell: Cell,
    other: Cell,
    means: Mapping[str, UtilityEstimate],
    name: str,
    metric: str,
) -> Iterator[Row]:
    """Yields the mean excess of one run over another, by population.

    Args:
        accuracies: Shares by record.
        cell: The run.
        other: The run it is compared with.
        means: What `mean_excesses` returned of them.
        name: The measure.
        metric: What its excess is called.
    """
    for population, mean in means.items():
        count = "n_members" if population == PRIVATE else "n_nonmembers"
        row = accuracies.row(cell, name, metric, run_b=other.alias)
        yield row | {"population": population, count: mean.n, **bounds(mean)}


def mean_excesses(accuracies: Accuracies, cell: Cell, other: Cell) -> dict[str, UtilityEstimate]:
    """Returns the mean difference of two runs by population, where records are of both.

    The differences are numbers in [-1, 1]: the interval has a width also where the two runs agree
    on every record, as rates near 0 do.
    """
    means = {}
    for population in (PRIVATE, HELD_OUT, NEVER):
        excess = accuracies.excess(cell, other, population)
        if len(excess):
            ids = accuracies.cluster_ids([cell], excess.index)
            clusters = None if ids is None else ids.tolist()
            means[population] = share_interval(excess.to_numpy(), clusters, low=-1.0)
    return means


def curve_rows(
    accuracies: Accuracies, cell: Cell, populations: Sequence[str] = (PRIVATE, NEVER)
) -> Iterator[Row]:
    """Yields a run's accuracy above every cut of its family's teacher, private and never seen.

    `run_b` is the teacher that cuts; the first of an ensemble, whose mean cuts.

    Args:
        accuracies: Token accuracies.
        cell: The run.
        populations: Whose records.
    """
    teachers = accuracies.teachers(cell)
    for population in populations:
        count = "n_members" if population == PRIVATE else "n_nonmembers"
        values = accuracies.of(cell, population)
        records = _taught(accuracies, cell, population, values)
        if records is None:
            continue
        for tau in TAUS:
            found = conditional_mean(records, tau)
            row = accuracies.row(cell, "conditional", TOKEN_ACCURACY, run_b=teachers[0].alias)
            cut = {"params": {**accuracies.params, "tau": tau}, "population": population}
            yield row | bounds(found) | cut | {count: found.n_members}


def _did_rows(accuracies: Accuracies, cell: Cell, other: Cell) -> Iterator[Row]:
    """Yields DiD(tau), which alone of the conditional figures speaks of inheritance."""
    sides = [
        _taught(accuracies, cell, population, accuracies.excess(cell, other, population))
        for population in (PRIVATE, NEVER)
    ]
    private, never = sides
    if private is None or never is None:
        return
    for tau in TAUS:
        found = difference_in_differences(private, never, tau)
        yield accuracies.row(cell, "conditional", "did", run_b=other.alias) | {
            "params": {**accuracies.params, "tau": tau},
            **bounds(found),
            "n_members": found.n_members,
            "n_nonmembers": found.n_nonmembers,
        }


def _taught(
    accuracies: Accuracies, cell: Cell, population: str, values: pd.Series
) -> TaughtRecords | None:
    """Returns values beside the accuracy of the private side's teacher; the mean of an ensemble."""
    teachers = [accuracies.of(teacher, population) for teacher in accuracies.teachers(cell)]
    if not teachers:
        return None
    teacher = pd.concat(teachers, axis=1, join="inner").mean(axis=1)
    common = values.index.intersection(teacher.index)
    if not len(common):
        return None
    return TaughtRecords(
        values[common].to_numpy(dtype=np.float64),
        teacher[common].to_numpy(dtype=np.float64),
        accuracies.cluster_ids([cell], common),
    )
