"""From profiles to rows of the results and scores tables, and to scalars."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audits.blocks.profile import Profile
from audits.rows import ResultRow, ScoreRow, bounds
from audits.scoring.blind_baseline import BlindSide
from audits.statistics.estimates import FloatArray
from datamodules.records import InstructionRecord

_SPREAD = "max_minus_min_corrected"
PERMUTED = "/permuted"
"""Ends the population of score rows whose record is a permuted labelling of that population."""


@dataclass(frozen=True)
class BlockSide:
    """The records of a population that signals were measured on.

    Attributes:
        population: Its name.
        records: R records.
        clusters: [R] ids of near-duplicate clusters.
        skipped: Records without a scorable token.
    """

    population: str
    records: Sequence[InstructionRecord]
    clusters: NDArray[np.int64]
    skipped: int

    @property
    def tasks(self) -> list[str]:
        """[R] tasks."""
        return [record.task for record in self.records]

    @property
    def blind(self) -> BlindSide:
        """What the blind baseline sees."""
        return BlindSide(self.records, self.clusters)


def profile_rows(
    profile: Profile,
    members: BlockSide,
    nonmembers: BlockSide,
    n_blocks: int,
    shifted: bool | None,
) -> list[ResultRow]:
    """Returns one row of the results table for every figure.

    Args:
        profile: What a signal says of the two sides.
        members: The members.
        nonmembers: The non-members.
        n_blocks: Blocks of the model, by which blocks of models of other depths are laid beside it.
        shifted: What the texts alone say of the two sides, `BlindVerdict.shifted`.
    """
    return [
        ResultRow(
            population=members.population,
            block=figure.block,
            name=profile.name,
            params={**profile.params, "n_blocks": n_blocks},
            metric=figure.metric,
            p_value=figure.p_value,
            **bounds(figure),
            n_members=len(members.records),
            n_nonmembers=len(nonmembers.records),
            skipped=members.skipped + nonmembers.skipped,
            shifted=shifted,
        )
        for figure in profile.figures
    ]


class BlockScoreRows(Collection[ScoreRow]):
    """One row of the scores table for every record, block and reading, made when asked for.

    Where a profile has refitted permuted labellings, each labelling is a row too: its id is the
    record, its AUROC the score, and the population ends in `PERMUTED`.
    """

    def __init__(self, n_blocks: int) -> None:
        self._n_blocks = n_blocks
        self._found: list[tuple[Profile, _Scored]] = []

    def add(self, profile: Profile, side: BlockSide, scores: FloatArray) -> None:
        """Adds the scores [R, L] of one side of a profile."""
        ids = [record.id for record in side.records]
        self._found.append((profile, _Scored(side.population, ids, side.tasks, scores)))

    def add_permuted(self, profile: Profile, population: str) -> None:
        """Adds the AUROCs of a profile's permuted labellings, if it has any.

        Args:
            profile: The profile.
            population: The members' population.
        """
        found = profile.permuted
        if found is not None:
            name, tasks = population + PERMUTED, [None] * len(found.labellings)
            self._found.append((profile, _Scored(name, found.labellings, tasks, found.aurocs)))

    def __len__(self) -> int:
        return sum(own.scores.size for _, own in self._found)

    def __iter__(self) -> Iterator[ScoreRow]:
        for profile, own in self._found:
            params = {**profile.params, "n_blocks": self._n_blocks}
            for record, task, scores in zip(own.ids, own.tasks, own.scores, strict=True):
                for block, score in zip(profile.blocks, scores, strict=True):
                    yield {
                        "record": record,
                        "population": own.population,
                        "task": task or None,
                        "name": profile.name,
                        "params": params,
                        "block": block,
                        "score": float(score),
                    }

    def __contains__(self, row: object) -> bool:
        return any(row == one for one in self)


@dataclass(frozen=True)
class _Scored:
    """Scores [R, L] of R records, or of what stands in their place."""

    population: str
    ids: Sequence[str]
    tasks: Sequence[str | None]
    scores: FloatArray


def title(name: object, params: Mapping[str, object]) -> str:
    """Returns a short name of a reading: the signal's id and which of its numbers it is."""
    return f"{name}/{params['measure']}" if "measure" in params else str(name)


def scalars(profile: Profile, population: str) -> dict[str, float]:
    """Returns how far apart the blocks lie, by TensorBoard tag; figures hold each block."""
    name = title(profile.name, profile.params)
    return {
        f"blocks/{population}/{name}/{figure.metric}": float(figure.value)
        for figure in profile.figures
        if figure.metric == _SPREAD and figure.value is not None
    }
