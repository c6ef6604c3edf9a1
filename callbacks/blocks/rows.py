"""From profiles to rows of the results and scores tables, and to scalars."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from callbacks.blocks.profile import Figure, Profile
from callbacks.results import Row
from callbacks.statistics.estimates import FloatArray


@dataclass(frozen=True)
class BlockSide:
    """The records of a population that signals were measured on.

    Attributes:
        population: Its name.
        record_ids: R records.
        tasks: [R] tasks.
        clusters: [R] ids of near-duplicate clusters.
        skipped: Records without a scorable token.
    """

    population: str
    record_ids: Sequence[str]
    tasks: Sequence[str]
    clusters: NDArray[np.int64]
    skipped: int


def profile_rows(
    profile: Profile, members: BlockSide, nonmembers: BlockSide, n_blocks: int
) -> list[Row]:
    """Returns one row of the results table for every figure.

    Args:
        profile: What a signal says of the two sides.
        members: The members.
        nonmembers: The non-members.
        n_blocks: Blocks of the model, by which blocks of models of other depths are laid beside it.
    """
    common: Row = {
        "population": members.population,
        "name": profile.name,
        "params": {**profile.params, "n_blocks": n_blocks},
        "n_members": len(members.record_ids),
        "n_nonmembers": len(nonmembers.record_ids),
        "skipped": members.skipped + nonmembers.skipped,
    }
    return [{**common, **_columns(figure)} for figure in profile.figures]


def _columns(figure: Figure) -> Row:
    return {
        "block": figure.block,
        "metric": figure.metric,
        "value": figure.value,
        "lower": figure.lower,
        "upper": figure.upper,
        "p_value": figure.p_value,
    }


class BlockScoreRows(Collection[Row]):
    """One row of the scores table for every record, block and reading, made when asked for."""

    def __init__(self, n_blocks: int) -> None:
        self._n_blocks = n_blocks
        self._found: list[tuple[Profile, BlockSide, FloatArray]] = []

    def add(self, profile: Profile, side: BlockSide, scores: FloatArray) -> None:
        """Adds the scores [R, L] of one side of a profile."""
        self._found.append((profile, side, scores))

    def __len__(self) -> int:
        return sum(scores.size for _, _, scores in self._found)

    def __iter__(self) -> Iterator[Row]:
        for profile, side, scores in self._found:
            params = {**profile.params, "n_blocks": self._n_blocks}
            for record, task, own in zip(side.record_ids, side.tasks, scores, strict=True):
                for block, score in zip(profile.blocks, own, strict=True):
                    yield {
                        "record": record,
                        "population": side.population,
                        "task": task,
                        "name": profile.name,
                        "params": params,
                        "block": block,
                        "score": float(score),
                    }

    def __contains__(self, row: object) -> bool:
        return any(row == one for one in self)


def title(name: object, params: Mapping[str, object]) -> str:
    """Returns a short name of a reading: the signal's id and which of its numbers it is."""
    return f"{name}/{params['measure']}" if "measure" in params else str(name)


def scalars(profile: Profile, population: str) -> dict[str, float]:
    """Returns AUROCs with their intervals, and what is told over blocks, by TensorBoard tag."""
    found = {}
    for figure in profile.figures:
        place = "all" if figure.block is None else f"block_{figure.block:02d}"
        tag = f"blocks/{population}/{title(profile.name, profile.params)}/{figure.metric}/{place}"
        for value, suffix in (
            (figure.value, ""),
            (figure.lower, "/lower"),
            (figure.upper, "/upper"),
        ):
            if value is not None:
                found[tag + suffix] = value
    return found
