"""The block audit: what every transformer block tells of members, from records to rows."""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from torch import Tensor

from audits.blocks.figures import evolution_figure, evolution_of, profile_figure
from audits.blocks.profile import MeasuredSide, Profile
from audits.blocks.recording import record_signals
from audits.blocks.rows import BlockScoreRows, BlockSide, profile_rows, scalars
from audits.blocks.signals import BlockAccess, BlockSignal, RecordedSignal, RerunSignal
from audits.context import AuditContext, Measurements
from audits.membership.measurements import NEVER
from audits.results import Row
from audits.scoring.blind_baseline import BlindOptions
from common.errors import UserError
from common.keys import key
from datamodules.batches import EncodedRecord
from kdmodules.models.anatomy import transformer_blocks


def audit_blocks(
    context: AuditContext,
    signals: Sequence[BlockSignal],
    populations: Sequence[str] | None,
    blind: BlindOptions | None,
    earlier: Sequence[Row] = (),
) -> Measurements:
    """Asks of every transformer block how well it lets members be told from others.

    Args:
        context: The model and its records.
        signals: The signals; those that only read share one forward pass.
        populations: Populations whose records count as members, each against its non-members; None
            takes the data's members.
        blind: The blind baseline; None leaves it out, and no row then says whether the data are
            shifted.
        earlier: Rows of the same audit of earlier checkpoints, for the figure of the evolution.

    Returns:
        Rows of results and scores, curves, and on rank 0 the figures.

    Raises:
        UserError: If a signal reads records that there are none of.
    """
    n_blocks = len(transformer_blocks(context.model.lm.model))
    scores = BlockScoreRows(n_blocks)
    found = Measurements(scores=scores)
    pairs = _pairs(context, populations)
    access = _access(context, signals, pairs)
    fitted = [signal.fitted(access) for signal in signals]
    sides = {name: _side(context, name) for name in _named(pairs)}
    measured = {name: _measured(fitted, access, encoded) for name, (_, encoded) in sides.items()}
    opposed = {
        (inside, outside): _oppose(
            fitted, (sides[inside][0], measured[inside]), (sides[outside][0], measured[outside])
        )
        for inside, outside in pairs
    }
    scored: set[str] = set()
    for (inside, outside), profiles in opposed.items():
        ours, theirs = sides[inside][0], sides[outside][0]
        shift_test = None
        if blind is not None:
            skipped = ours.skipped + theirs.skipped
            shift_test = context.shift_test(inside, ours.blind, theirs.blind, blind, skipped)
        found.results += () if shift_test is None else shift_test.rows
        shifted = None if shift_test is None else shift_test.verdict.shifted
        for profile in profiles:
            found.results += profile_rows(profile, ours, theirs, n_blocks, shifted)
            found.curves |= scalars(profile, inside)
            for side, values in ((ours, profile.member_scores), (theirs, profile.nonmember_scores)):
                # Non-members of two populations stand in the table once.
                if side.population not in scored:
                    scores.add(profile, side, values)
            scores.add_permuted(profile, inside)
        scored |= {inside, outside}
        warning = "SHIFTED DATA: " if shift_test is not None and shift_test.alarming else ""
        if context.model.ranks.rank == 0:
            _draw(found, context.step, earlier, profiles, (ours, theirs), warning)
    return found


def check_blocks(
    context: AuditContext, signals: Sequence[BlockSignal], populations: Sequence[str] | None
) -> None:
    """Refuses, before any forward pass, blocks that are not known, populations that are not there,
    and signals without the text that they are fitted on.

    Raises:
        UserError: If the model's parts are unknown, there is no such population, no text that is
            not audited, or none that no model met.
    """
    context.model.lm.require_parts("an audit of blocks")
    for name in _named(_pairs(context, populations)):
        context.population(name)
    if any(signal.needs_development for signal in signals):
        _development(context, signals, _pairs(context, populations))
    if any(signal.needs_never for signal in signals):
        _side(context, NEVER)


def _access(
    context: AuditContext, signals: Sequence[BlockSignal], pairs: Sequence[tuple[str, str]]
) -> BlockAccess:
    return BlockAccess(
        context.model,
        cache(context.load_reference),
        lambda: _development(context, signals, pairs),
        lambda: _side(context, NEVER)[1],
    )


def _pairs(context: AuditContext, populations: Sequence[str] | None) -> list[tuple[str, str]]:
    return [(name, context.data.opposed_to(name)) for name in context.members_of(populations)]


def _named(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Returns every population of some pairs, once."""
    return list(dict.fromkeys(name for pair in pairs for name in pair))


def _development(
    context: AuditContext, signals: Sequence[BlockSignal], pairs: Sequence[tuple[str, str]]
) -> list[EncodedRecord]:
    """Returns development records with a response, none of which any audit could judge."""
    fitted = ", ".join(signal.name for signal in signals if signal.needs_development)
    records = context.data.development_records()
    for name in _named(pairs):
        audited = {record.content for record in context.data.population(name)}
        shared = sum(record.content in audited for record in records)
        if shared:
            raise UserError(
                f"{fitted} is fitted on development text, and {shared} of the "
                f"{len(records)} development records are audited as {name!r}: leave that "
                "signal out, or audit a run, whose data have a development split of their own"
            )
    encoded = context.data.tokens("development", records)
    found = [record for record in encoded if record.response_ids]
    if len(found) < 2:
        raise UserError(
            f"{fitted} is fitted on some development records and judged on "
            f"others, and {len(found)} of them has a response: give "
            "data.splits.fractions.development a larger share, or leave it out"
        )
    return found


def _side(context: AuditContext, name: str) -> tuple[BlockSide, list[EncodedRecord]]:
    """Returns a population's scorable records and their tokens."""
    population, answered = context.population(name), context.answered(name)
    both = zip(answered, context.model.encoder.encode_all(answered), strict=True)
    kept = [(record, encoded) for record, encoded in both if encoded.response_ids]
    records = [record for record, _ in kept]
    if len(records) < 2:
        raise UserError(
            f"BlockAudit: population {name!r} has {len(records)} records with a response, and "
            "2 or more are needed"
        )
    clusters = np.array([key(one) for one in context.data.clusters(records)], dtype=np.int64)
    side = BlockSide(name, records, clusters, skipped=len(population) - len(records))
    return side, [encoded for _, encoded in kept]


def _draw(
    found: Measurements,
    step: int,
    earlier: Sequence[Row],
    profiles: Sequence[Profile],
    sides: tuple[BlockSide, BlockSide],
    warning: str,
) -> None:
    """Adds the profiles of this checkpoint and the evolution over all of them."""
    ours, theirs = sides
    counts = f"n = {len(ours.records)} + {len(theirs.records)}"
    heading = f"{warning}{ours.population} against {theirs.population}: {counts}"
    found.figures[f"blocks/{ours.population}/profile"] = profile_figure(profiles, heading)
    current: list[Mapping[str, object]] = [{**row, "step": step} for row in found.results]
    evolution = evolution_of([*earlier, *current], ours.population)
    found.figures[f"blocks/{ours.population}/evolution"] = evolution_figure(evolution, heading)


def _measured(
    signals: Sequence[BlockSignal], access: BlockAccess, encoded: Sequence[EncodedRecord]
) -> list[Tensor]:
    """Returns one tensor [R, L, K] for every signal, in order."""
    recorded = [one for one in signals if isinstance(one, RecordedSignal)]
    found: dict[BlockSignal, Tensor] = {}
    if recorded:
        read = record_signals(access.model, encoded, recorded)
        found |= dict(zip(recorded, read, strict=True))
    for signal in signals:
        if isinstance(signal, RerunSignal):
            found[signal] = signal.measure(access, encoded)
    return [found[signal] for signal in signals]


def _oppose(
    signals: Sequence[BlockSignal],
    members: tuple[BlockSide, Sequence[Tensor]],
    nonmembers: tuple[BlockSide, Sequence[Tensor]],
) -> list[Profile]:
    (ours, inside), (theirs, outside) = members, nonmembers
    profiles = []
    for signal, one, other in zip(signals, inside, outside, strict=True):
        profiles += signal.oppose(
            MeasuredSide(one, ours.tasks, ours.clusters),
            MeasuredSide(other, theirs.tasks, theirs.clusters),
        )
    return profiles
