"""The membership audit: populations to views, views to attacks, attacks to rows."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from audits.context import AuditContext, Measurements
from audits.membership.attacks import Attack
from audits.membership.attacks.aligned import other_tokens
from audits.membership.collection import Collector
from audits.membership.evaluation import Opposition, Side, evaluate
from audits.membership.measurements import NEVER
from audits.membership.plan import AuditPlan
from audits.membership.single_records import (
    ShadowWorlds,
    never_records,
    pool_records,
    single_record_rows,
)
from audits.record_counts import count_rows
from audits.scoring.blind_baseline import BlindOptions, BlindSide
from audits.scoring.shift_test import ShiftTest
from audits.template_check import template_rows
from common.errors import UserError
from common.keys import key
from datamodules.tokenizer import vocabulary_hash
from kdmodules.models.weights_hash import weights_hash

Keep = Callable[[Mapping[str, Side], Sequence[Opposition]], None]


def audit_membership(
    context: AuditContext,
    attacks: Sequence[Attack],
    populations: Sequence[str] | None,
    fprs: Sequence[float],
    blind: BlindOptions | None,
    named: bool,
    keep: Keep | None = None,
    worlds: ShadowWorlds | None = None,
) -> Measurements:
    """Asks of every record whether the model's training reached it.

    Args:
        context: The model and its records.
        attacks: The attacks; what several of them read is measured once.
        populations: Populations whose records count as members, each against its non-members; None
            takes the data's members.
        fprs: False-positive rates at which the true-positive rate is reported.
        blind: The blind baseline; None leaves it out, and no row then says whether the data are
            shifted.
        named: Whether the checkpoint was named beforehand, which a bound on epsilon needs.
        keep: Called with everything that was measured, before it is judged.
        worlds: The worlds that judge single records; None judges none.

    Returns:
        Rows of results and scores, curves, and one ROC figure for every population of members.

    Raises:
        UserError: If an attack reads records or a reference that there are none of.
        FloatingPointError: Naming the record whose score is not a number.
    """
    plan = audit_plan(attacks, worlds)
    oppositions = [_opposition(context, name) for name in context.members_of(populations)]
    shift_tests = {} if blind is None else tested_for_shift(context, populations, blind)
    views = _collector(context, hashed=keep is not None).collect(
        plan, {name: context.population(name) for name in _sides(oppositions)}
    )
    sides = {
        name: Side(
            view,
            context.data.clusters(view.records),
            empty=len(context.population(name)) - len(view.records),
        )
        for name, view in views.items()
    }
    if keep is not None:
        keep(sides, oppositions)
    found = evaluate(attacks, fprs, sides, oppositions, shift_tests, named, context.guarantee)
    if worlds is not None:
        _judge_single_records(found, context, worlds, sides)
    members = {pair.members for pair in oppositions}
    for name, side in sides.items():
        if counts := context.shared.counts.get(name):
            n = len(side.view.records)
            found.results += count_rows(name, counts, n, side.empty, name in members)
    if context.data.trained_elsewhere:
        found.results += template_rows(context, context.data.member_population)
    return found


def audit_plan(attacks: Sequence[Attack], worlds: ShadowWorlds | None) -> AuditPlan:
    """Returns what an audit measures, each thing once."""
    return AuditPlan.of([*attacks, *([] if worlds is None else [worlds])])


def _judge_single_records(
    found: Measurements,
    context: AuditContext,
    worlds: ShadowWorlds,
    sides: Mapping[str, Side],
) -> None:
    names = _pool(context)
    views = {name: sides[name].view for name in names}
    pool = pool_records(worlds, views, {name: sides[name].clusters for name in names})
    never = never_records(worlds, context.data, views[names[0]])
    results, records = single_record_rows(worlds, pool, never)
    found.results += results
    found.memorization += records


def _pool(context: AuditContext) -> tuple[str, str]:
    """Returns the two populations that coins part anew in every world."""
    members = context.data.member_population
    return members, context.data.opposed_to(members)


def tested_for_shift(
    context: AuditContext, populations: Sequence[str] | None, blind: BlindOptions
) -> dict[str, ShiftTest]:
    """Returns what the texts alone tell of every population of members; no model is asked.

    Args:
        context: The records.
        populations: Populations whose records count as members; None takes the data's members.
        blind: How it is judged.
    """
    found = {}
    for name in context.members_of(populations):
        names = (name, context.data.opposed_to(name))
        records = [context.require_responses(side) for side in names]
        ours, theirs = (
            BlindSide(side, np.array(list(map(key, context.data.clusters(side))), dtype=np.int64))
            for side in records
        )
        empty = sum(len(context.population(side)) for side in names) - sum(map(len, records))
        found[name] = context.shift_test(name, ours, theirs, blind, empty)
    return found


def check_membership(
    context: AuditContext,
    attacks: Sequence[Attack],
    populations: Sequence[str] | None,
    worlds: ShadowWorlds | None = None,
) -> None:
    """Refuses, before anything is trained, what could not be measured on these records.

    Raises:
        UserError: Naming what is missing.
    """
    oppositions = [_opposition(context, name) for name in context.members_of(populations)]
    records = {name: context.population(name) for name in _sides(oppositions)}
    if worlds is not None:
        worlds.check(context.data)
        if not set(_pool(context)) <= records.keys():
            raise UserError(
                f"worlds: populations must hold {_pool(context)[0]!r}, whose records "
                "are judged singly"
            )
    _collector(context).check(audit_plan(attacks, worlds), records)
    own = vocabulary_hash(context.model.encoder.tokenizer)
    for attack in (one for one in attacks if one.shares_tokens):
        for name in AuditPlan.of([attack]).references:
            if vocabulary_hash(context.reference_tokenizer(name)) != own:
                raise other_tokens(attack.name, name)


def _sides(oppositions: Sequence[Opposition]) -> list[str]:
    """Returns every population that is set against another, once."""
    return list(
        dict.fromkeys(name for pair in oppositions for name in (pair.nonmembers, pair.members))
    )


def _opposition(context: AuditContext, members: str) -> Opposition:
    data = context.data
    nonmembers = data.opposed_to(members)
    # Where `max_records` cuts a side, the cut fixed its number, and no coin did.
    whole = all(
        len(context.population(name)) == len(data.population(name))
        for name in (members, nonmembers)
    )
    fair_coins = whole and data.fair_coins(members)
    unit, dealt = data.coin_unit(members), data.dealt_by_coins(members)
    return Opposition(members, nonmembers, fair_coins, unit, dealt)


def _collector(context: AuditContext, hashed: bool = False) -> Collector:
    return Collector(
        access=context.model,
        load_reference=context.load_reference,
        own_pass=context.token_statistics,
        weights_hash=weights_hash if hashed else lambda lm: "",
        pool_records=context.pool_records,
        never_records=lambda: context.data.population(NEVER),
        met=context.data.met,
        folder=context.folder,
    )
