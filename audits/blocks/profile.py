"""A signal's profile over blocks: AUROC and interval at each, and whether blocks differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from audits.rows import known
from audits.statistics import Estimate, auroc, auroc_over_draws, holm, reliability
from audits.statistics.equality import block_p_values, spread_over_blocks
from audits.statistics.estimates import Clusters, FloatArray, IntArray

Params = Mapping[str, float | int | str]


@dataclass(frozen=True)
class MeasuredSide:
    """What one signal measured on one population.

    Attributes:
        measured: [R, L, K] float64.
        tasks: [R] tasks.
        clusters: [R] ids of near-duplicate clusters, the independent units.
    """

    measured: Tensor
    tasks: Sequence[str]
    clusters: IntArray


@dataclass(frozen=True)
class Reading:
    """One number for every record and block.

    Attributes:
        name: The signal's id.
        params: Its options, and which of its numbers this is.
        blocks: Indices of the L blocks that were read.
        values: [R, L] float64.
        directed: Whether "higher = more likely a member" was said beforehand. Otherwise the
            AUROC is tested from both sides; it is never flipped.
        draws: [R, L, K] under single random draws that all records share, whose mean is the value.
    """

    name: str
    params: Params
    blocks: tuple[int, ...]
    values: FloatArray
    directed: bool = True
    draws: FloatArray | None = None


@dataclass(frozen=True)
class Figure:
    """One figure of a profile, of a block or of all of them.

    Attributes:
        metric: What it is: auroc, reliability, max_minus_min, ...
        block: The block; None for a figure over blocks.
        value: The estimate; None where it is not measurable or not to be reported.
        lower: Lower end of its 95% interval.
        upper: Upper end.
        p_value: Of the hypothesis that goes with it, corrected over blocks where it has a block.
    """

    metric: str
    block: int | None
    value: float | None
    lower: float | None = None
    upper: float | None = None
    p_value: float | None = None


@dataclass(frozen=True)
class PermutedAreas:
    """What a signal that learns from labels finds under permuted ones, fitted anew to each.

    Attributes:
        labellings: P ids; equal ids in two runs mean the same labels, clusters and folds.
        aurocs: [P, L] AUROC of the held-out records at each block.
    """

    labellings: tuple[str, ...]
    aurocs: FloatArray


@dataclass(frozen=True)
class Profile:
    """Everything that one reading says of two sides.

    Attributes:
        name: The signal's id.
        params: Its options, and which of its numbers this is.
        blocks: The blocks that were read.
        figures: Its figures.
        member_scores: [n, L] the members' numbers.
        nonmember_scores: [m, L] the non-members'.
        permuted: The same of permuted labels, of a signal that learns from labels.
    """

    name: str
    params: Params
    blocks: tuple[int, ...]
    figures: tuple[Figure, ...]
    member_scores: FloatArray = field(repr=False)
    nonmember_scores: FloatArray = field(repr=False)
    permuted: PermutedAreas | None = field(default=None, repr=False)


def relative_depth(block: int, n_blocks: int) -> float:
    """Returns where a block's middle lies between the input, 0, and the head, 1.

    Blocks of models of different depth are laid beside each other by it.

    >>> relative_depth(0, 2), relative_depth(3, 4)
    (0.25, 0.875)
    """
    return (block + 0.5) / n_blocks


def profile_of(
    ours: Reading, theirs: Reading, members: MeasuredSide, nonmembers: MeasuredSide
) -> Profile:
    """Returns the AUROC of every block with its interval and p-value, and the tests over blocks.

    Intervals are those of single blocks; p-values are of label permutations, Holm-corrected over
    the blocks of this reading. Where the reading has draws, intervals count them and every block
    has the reliability of its scores beside it.

    Args:
        ours: The members' reading.
        theirs: The non-members'.
        members: Tasks and clusters of the members.
        nonmembers: Tasks and clusters of the non-members.
    """
    clusters = (members.clusters, nonmembers.clusters)
    named = Clusters(member_clusters=members.clusters, nonmember_clusters=nonmembers.clusters)
    estimates = [_area(ours, theirs, place, named) for place in range(len(ours.blocks))]
    p_values = holm(
        block_p_values(ours.values.T, theirs.values.T, *clusters, directed=ours.directed)
    )
    figures = [
        Figure("auroc", block, one.value, one.lower, one.upper, float(p))
        for block, one, p in zip(ours.blocks, estimates, p_values, strict=True)
    ]
    if ours.draws is not None and theirs.draws is not None:
        both = np.concatenate([ours.draws, theirs.draws])
        figures += [
            Figure("reliability", block, known(reliability(both[:, place])))
            for place, block in enumerate(ours.blocks)
        ]
    figures += _over_blocks(ours, theirs, clusters)
    return Profile(ours.name, ours.params, ours.blocks, tuple(figures), ours.values, theirs.values)


def _area(ours: Reading, theirs: Reading, place: int, clusters: Clusters) -> Estimate:
    if ours.draws is not None and theirs.draws is not None:
        return auroc_over_draws(ours.draws[:, place], theirs.draws[:, place], **clusters)
    return auroc(ours.values[:, place], theirs.values[:, place], **clusters)


def _over_blocks(
    ours: Reading, theirs: Reading, clusters: tuple[IntArray, IntArray]
) -> list[Figure]:
    """Returns how far the blocks' AUROCs lie apart; nothing where there is one block."""
    if len(ours.blocks) < 2:
        return []
    spread = spread_over_blocks(
        _as_draws(ours), _as_draws(theirs), *clusters, seed=[len(ours.blocks)]
    )
    return [
        Figure("max_minus_min", None, spread.value, spread.lower, spread.upper, spread.p_value),
        Figure("max_minus_min_corrected", None, spread.corrected),
        Figure("equal_blocks_wald", None, spread.wald, p_value=spread.wald_p_value),
    ]


def _as_draws(reading: Reading) -> FloatArray:
    return reading.values[:, :, None] if reading.draws is None else reading.draws
