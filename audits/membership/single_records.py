"""Whose records does a training give away? Each is judged by models trained with and without it.

Means over records hide a few that are certain. Of k shadow worlds, pairs of opposite coins, each
record of the pool is in half; what its score is in these and in the others tells of that record
alone. It is a statement about training by this recipe, not about the audited model's one set of
weights. Records of `never` have coins that no training reads, and are the null. The statistics are
in `audits.tail`.

The score is the mean log-probability of the response's tokens. Setting it off against a base, as
the reference attack does, takes the same from a record's score in all worlds and changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from audits.membership.attacks.confidence import mean_log_likelihoods, met_matrix
from audits.membership.measurements import AUDITED, NEVER, Measurement, Scored
from audits.membership.view import AuditView
from audits.rows import MemorizationRow, ResultRow, bounds, told_tasks
from audits.tail.most_exposed import MostExposed, most_exposed
from audits.tail.naming import named_records
from audits.tail.separations import separations
from audits.tail.shares import share_found
from audits.tail.world_scores import FEWEST_CLUSTERS, FEWEST_PAIRS, WorldScores
from common.errors import UserError
from common.keys import key
from datamodules.populations import Populations
from datamodules.records import InstructionRecord
from datamodules.worlds import SHADOW

SINGLE_RECORDS = "single_records"
"""Name of the rows."""
POOL = "pool"
"""Population of the rows: both sides, since in half of the worlds every record is a member."""
SHARE_FOUND, NAMED, NAMED_SUBJECTS, TAIL = "share_found", "named", "named_subjects", "tail"
TRAITS = ("tokens", "nats_per_token", "copies")
"""What exposed records may have in common: length, rarity (nats per token under models that did not
meet the record), and records of its near-duplicate cluster."""
SEPARATION = "separation"
"""Name of a record's figure in the table of records; its others are `FIGURES` of it."""
FIGURES = ("lower", "upper", "p_value", "named", "chosen")

FALSE_DISCOVERY_RATE = 0.05
TAIL_SHARE = 0.05
TPR, FPR = 0.1, 0.001
_FEWEST_FOR_TAIL = 4


@dataclass(frozen=True)
class ShadowWorlds:
    """What is read to judge single records: a pass of the model of every shadow world.

    Attributes:
        count: number of worlds, even: references ``shadow0`` to ``shadow<count - 1>``.

    Raises:
        UserError: if there are too few worlds, or one without its opposite.
    """

    name: ClassVar[str] = SINGLE_RECORDS
    count: int

    def __post_init__(self) -> None:
        """Checks the number."""
        if self.count % 2 or self.count < 2 * FEWEST_PAIRS:
            raise UserError(
                f"worlds is {self.count}: single records are judged by pairs of shadow worlds with "
                f"opposite coins; give an even number from {2 * FEWEST_PAIRS} on, or 0"
            )

    @property
    def references(self) -> list[str]:
        """Names of the worlds' models."""
        return [f"{SHADOW}{number}" for number in range(self.count)]

    @property
    def requires(self) -> frozenset[Measurement]:
        """One pass of each model over the pool and over the never-seen records."""
        records = (AUDITED, NEVER)
        return frozenset(Scored(model=one, records=of) for one in self.references for of in records)

    def check(self, data: Populations) -> None:
        """Refuses records that cannot be judged.

        Raises:
            UserError: If the split has no worlds, or too few records that no run trains on.
        """
        data.placebo(self.references[0], [])
        never = [one for one in data.population(NEVER) if one.response]
        found = len(set(data.clusters(never)))
        if found < FEWEST_CLUSTERS:
            raise UserError(
                f"worlds: single records are judged against {FEWEST_CLUSTERS} clusters or more "
                f"that no run trains on, and there are {found}: give data.splits.fractions.never "
                "a larger share"
            )


@dataclass(frozen=True)
class JudgedRecords:
    """Records of one kind under the models of all worlds.

    Attributes:
        records: The B records.
        populations: Population of each.
        found: Their scores and coins.
        tokens: [B] scored tokens.
    """

    records: Sequence[InstructionRecord]
    populations: Sequence[str]
    found: WorldScores
    tokens: NDArray[np.int64]

    @property
    def tasks(self) -> list[str]:
        """Task of each record; empty where it has none."""
        return [one.task or "" for one in self.records]

    @cached_property
    def tail(self) -> MostExposed | None:
        """The most exposed, chosen on half of the worlds; None of too few worlds for halves."""
        few = self.found.pairs < _FEWEST_FOR_TAIL
        return None if few else most_exposed(self.found, TAIL_SHARE)

    @property
    def chosen(self) -> NDArray[np.bool_]:
        """[B] whether a record is among the most exposed of either half."""
        if self.tail is None:
            return np.zeros(len(self.records), dtype=bool)
        return np.asarray(self.tail.chosen.any(axis=0))

    @property
    def traits(self) -> dict[str, NDArray[np.float64]]:
        """[B] what each record is like, by name."""
        out = np.where(self.found.met, 0.0, self.found.scores).sum(axis=0) / self.found.pairs
        _, of, copies = np.unique(self.found.clusters, return_inverse=True, return_counts=True)
        values = (self.tokens.astype(np.float64), -out, copies[of].astype(np.float64))
        return dict(zip(TRAITS, values, strict=True))


def pool_records(
    worlds: ShadowWorlds, views: Mapping[str, AuditView], clusters: Mapping[str, Sequence[str]]
) -> JudgedRecords:
    """Returns the scorable records of both sides of the pool, members in half of the worlds.

    Args:
        worlds: The worlds.
        views: What was measured, by population.
        clusters: Name of each record's cluster, by population.
    """
    kept = {name: view.scorable for name, view in views.items()}
    whole = {name: view.where(kept[name]) for name, view in views.items()}
    scores = [mean_log_likelihoods(view, worlds.references) for view in whole.values()]
    met = [met_matrix(view, worlds.references) for view in whole.values()]
    names = [
        one
        for name, keep in kept.items()
        for one, scorable in zip(clusters[name], keep.tolist(), strict=True)
        if scorable
    ]
    lengths = [view.table(Scored(model=worlds.references[0])).lengths for view in whole.values()]
    return JudgedRecords(
        [record for view in whole.values() for record in view.records],
        [name for name, view in whole.items() for _ in view.records],
        WorldScores(torch.cat(scores, 1).numpy(), torch.cat(met, 1).numpy(), _numbers(names)),
        torch.cat(lengths).numpy(),
    )


def never_records(worlds: ShadowWorlds, data: Populations, measured: AuditView) -> JudgedRecords:
    """Returns the records that no world trained on, with the coins that nobody read.

    Args:
        worlds: The worlds.
        data: The records.
        measured: Any view of the audit: all hold the passes over never-seen records.
    """
    table = measured.table(Scored(model=worlds.references[0], records=NEVER))
    by_id = {one.id: one for one in data.population(NEVER)}
    scorable = table.lengths.numpy() > 0
    kept = np.flatnonzero(scorable).tolist()
    records = [by_id[table.record_ids[place]] for place in kept]
    scores = mean_log_likelihoods(measured, worlds.references, NEVER).numpy()[:, scorable]
    coins = np.array([data.placebo(name, records) for name in worlds.references])
    clusters = _numbers(data.clusters(records))
    found = WorldScores(scores, coins, clusters)
    return JudgedRecords(records, [NEVER] * len(records), found, table.lengths.numpy()[scorable])


def single_record_rows(
    worlds: ShadowWorlds, pool: JudgedRecords, never: JudgedRecords
) -> tuple[list[ResultRow], list[MemorizationRow]]:
    """Returns what the worlds say of all records together, and of each.

    Args:
        worlds: The worlds.
        pool: Both sides.
        never: The null.

    Returns:
        Rows of results: ``share_found``, the share of clusters found with a TPR of 10% at an FPR of
        0.1%; ``named``, how many records a false-discovery rate of 5% names, also by task, and
        ``named_subjects``, of how many persons; ``tail``, mean separation of the most exposed 5%,
        by task and for never-seen records too; what named and other records are like. And rows of
        the table of records, six for each.
    """
    named = named_records(pool.found, never.found, false_discovery_rate=FALSE_DISCOVERY_RATE)
    row = ResultRow(
        name=SINGLE_RECORDS,
        metric=NAMED,
        population=POOL,
        params={"worlds": worlds.count},
        n_members=len(pool.records),
        n_nonmembers=len(never.records),
    )
    found = share_found(pool.found, never.found, tpr=TPR, fpr=FPR)
    rows = [
        replace(
            row,
            metric=SHARE_FOUND,
            params={**row.params, "tpr": TPR, "fpr": FPR},
            **bounds(found),
            n_members=found.n_members,
            n_nonmembers=found.n_nonmembers,
        )
    ]
    rows += _named_rows(row, pool, named)
    rows += [*_tail_rows(row, pool), *_tail_rows(replace(row, population=NEVER), never)]
    rows += _trait_rows(row, pool, named)
    return rows, [*_records(worlds, pool, named), *_records(worlds, never, None)]


def _named_rows(row: ResultRow, pool: JudgedRecords, named: NDArray[np.bool_]) -> list[ResultRow]:
    at = {**row.params, "false_discovery_rate": FALSE_DISCOVERY_RATE}
    tasks = np.array(pool.tasks)
    rows = [replace(row, params=at, value=float(named.sum()))]
    for task in told_tasks(pool.tasks):
        ours = tasks == task
        count, n = float((named & ours).sum()), int(ours.sum())
        rows.append(replace(row, params=at, task=task, value=count, n_members=n))
    subjects = {one.subject for one in pool.records if one.subject}
    if subjects:
        of = {one.subject for one, is_named in zip(pool.records, named, strict=True) if is_named}
        count, n = float(len(of - {None, ""})), len(subjects)
        rows.append(replace(row, metric=NAMED_SUBJECTS, params=at, value=count, n_members=n))
    return rows


def _tail_rows(row: ResultRow, judged: JudgedRecords) -> list[ResultRow]:
    """Returns the mean separation of the most exposed on worlds that had no part in the choice."""
    if judged.tail is None:
        return []
    tasks = np.array(judged.tasks)
    rows = []
    for task in [None, *told_tasks(judged.tasks)]:
        found = judged.tail.separation(True if task is None else tasks == task)
        if found is not None:
            at = {**row.params, "share": TAIL_SHARE}
            own = replace(row, metric=TAIL, task=task, params=at, n_members=found.n)
            rows.append(replace(own, n_nonmembers=None, **bounds(found)))
    return rows


def _trait_rows(row: ResultRow, pool: JudgedRecords, named: NDArray[np.bool_]) -> list[ResultRow]:
    groups = {"named": named, "most exposed": pool.chosen, "others": ~(named | pool.chosen)}
    return [
        replace(
            row,
            metric=trait,
            params={**row.params, "records": group},
            value=float(np.median(values[which])),
            n_members=int(which.sum()),
            n_nonmembers=None,
        )
        for trait, values in pool.traits.items()
        for group, which in groups.items()
        if which.any()
    ]


def _records(
    worlds: ShadowWorlds, judged: JudgedRecords, named: NDArray[np.bool_] | None
) -> list[MemorizationRow]:
    """Returns each record's figures, those that say who was named of the pool alone."""
    each = separations(judged.found)
    figures = dict(zip(FIGURES, (each.lower, each.upper, each.p_value, named), strict=False))
    columns = {SEPARATION: each.value, **{f"{SEPARATION}_{n}": v for n, v in figures.items()}}
    if judged.tail is not None:
        columns[f"{SEPARATION}_{FIGURES[-1]}"] = judged.chosen
    return [
        {
            "record": record.id,
            "population": population,
            "task": record.task or None,
            "name": name,
            "params": {"worlds": worlds.count},
            "value": float(value),
            "n_tokens": int(tokens),
        }
        for name, values in columns.items()
        if values is not None
        for record, population, tokens, value in zip(
            judged.records, judged.populations, judged.tokens, values, strict=True
        )
    ]


def _numbers(clusters: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(key, clusters), dtype=np.int64, count=len(clusters))
