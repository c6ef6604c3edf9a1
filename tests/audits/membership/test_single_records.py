"""Single records out of shadow worlds: a planted tail, a clean control, and who met what."""

import numpy as np
import pandas as pd
import pytest
import torch

from audits.membership.attacks import Loss
from audits.membership.audit import audit_plan
from audits.membership.measurements import NEVER, Scored
from audits.membership.single_records import (
    NAMED,
    POOL,
    SEPARATION,
    SHARE_FOUND,
    TAIL,
    TRAITS,
    JudgedRecords,
    ShadowWorlds,
    never_records,
    pool_records,
    single_record_rows,
)
from audits.membership.view import AuditView
from audits.results import table_from_rows
from common.errors import UserError
from datamodules.external import ExternalDataModule
from datamodules.instruction import InstructionDataModule
from datamodules.split_options import Fractions, SplitOptions
from tests.audits.membership.conftest import planted_confidences

WORLDS = ShadowWorlds(16)
SIDES = ("private", "held_out")
SHARES = Fractions(private=0.3, held_out=0.3, public=0.05, never=0.3, development=0.05)


def split(shadow: int | None = None, fractions: Fractions = SHARES) -> InstructionDataModule:
    """Some 180 records a side and as many that no run trains on."""
    options = SplitOptions(seed=2, fractions=fractions, shadow=shadow, min_records=2)
    found = InstructionDataModule(n_records=600, vocabulary=300, splits=options, template="alpaca")
    found.setup("fit")
    return found


@pytest.fixture(scope="module")
def data() -> InstructionDataModule:
    return split()


def judged(
    data: InstructionDataModule, exposed: set[str], seed: int
) -> tuple[JudgedRecords, JudgedRecords]:
    """phi ~ N(hardness + effect [met] + the world's level, 1), hardness ~ N(-5, 3).

    Args:
        data: The records.
        exposed: Ids of those of effect 5; that of the others is 0.3.
        seed: Of the noise.
    """
    rng = np.random.default_rng(seed)
    levels = rng.normal(size=WORLDS.count)
    views, aside = {}, {}
    for name in (NEVER, *SIDES):
        records = data.population(name)
        hardness = rng.normal(-5, 3, len(records))
        effect = np.array([5.0 if one.id in exposed else 0.3 for one in records])
        passes, met = {}, {}
        for reference, level in zip(WORLDS.references, levels, strict=True):
            inside = np.array(data.met(reference, records))
            phi = hardness + effect * inside + level + rng.normal(size=len(records))
            met[reference] = torch.tensor(inside)
            passes[reference] = planted_confidences(phi, records)
        if name == NEVER:
            aside = {Scored(model=one, records=NEVER): table for one, table in passes.items()}
        else:
            own = {Scored(model=one): table for one, table in passes.items()}
            views[name] = AuditView(records, own | aside, met=met)
    clusters = {name: data.clusters(data.population(name)) for name in SIDES}
    return pool_records(WORLDS, views, clusters), never_records(WORLDS, data, views["private"])


def tables(pool: JudgedRecords, never: JudgedRecords) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Results by metric and task, and the records' figures by id and name."""
    rows, records = single_record_rows(WORLDS, pool, never)
    whole = {"run": "a", "role": "teacher", "step": 1, "audit": "membership"}
    results = table_from_rows("results", [{**whole, **row} for row in rows]).to_pandas()
    table = table_from_rows("memorization", [{"run": "a", "step": 1, **row} for row in records])
    return results, table.to_pandas().pivot(index="record", columns="name", values="value")


def test_every_record_is_judged_by_who_met_it(data: InstructionDataModule) -> None:
    """Coins, scores and traits against the sides that each world's training is handed."""
    pool, never = judged(data, set(), seed=0)
    sides = [one for name in SIDES for one in data.population(name)]
    assert pool.records == sides
    assert pool.populations == [name for name in SIDES for _ in data.population(name)]
    assert never.records == data.population(NEVER)
    handed = [
        {record.content for record in split(world).training_records("private")}
        for world in range(WORLDS.count)
    ]
    for world, contents in enumerate(handed):
        expected = [record.content in contents for record in sides]
        assert pool.found.met[world].tolist() == expected
        assert not {record.content for record in never.records} & contents
    names = data.clusters(sides)
    for place in (0, 7, len(sides) - 1):
        out = [
            pool.found.scores[w, place] for w in range(16) if sides[place].content not in handed[w]
        ]
        assert len(out) == 8
        expected = (1.0, -sum(out) / 8, float(names.count(names[place])))
        assert [pool.traits[name][place] for name in TRAITS] == pytest.approx(expected)


def test_a_planted_tail_is_named_and_a_clean_model_names_nobody(
    data: InstructionDataModule,
) -> None:
    """4% of the pool's records at 5 standard deviations, all others at 0.3."""
    sides = [one for name in SIDES for one in data.population(name)]
    planted = {one.id for one in sides[::25]}
    pool, never = judged(data, planted, seed=1)
    results, records = tables(pool, never)
    named = set(records.index[records[f"{SEPARATION}_named"] == 1.0])
    assert len(named & planted) >= 0.8 * len(planted)
    assert len(named - planted) <= 3
    assert set(records.index[records[f"{SEPARATION}_chosen"] == 1.0]) >= named & planted
    whole = results[results["task"].isna()].set_index(["metric", "population"])
    assert whole.loc[(NAMED, POOL), "value"] == len(named)
    by_task = results[results["task"].notna() & (results["metric"] == NAMED)]
    assert by_task["value"].sum() == len(named)
    assert by_task["n_members"].sum() == len(sides)
    share = whole.loc[(SHARE_FOUND, POOL)]
    assert 0.01 < share["lower"] < 0.04 < share["upper"] < 0.12
    assert whole.loc[(TAIL, POOL), "lower"] > 2.0
    assert whole.loc[(TAIL, NEVER), "lower"] < 0.0 < whole.loc[(TAIL, NEVER), "upper"]
    # Never-seen records have a separation, and nobody names them.
    unseen = records.loc[[one.id for one in never.records]]
    assert unseen[SEPARATION].notna().all()
    assert unseen[f"{SEPARATION}_named"].isna().all()
    assert abs(unseen[SEPARATION].mean()) < 0.1

    results, records = tables(*judged(data, set(), seed=2))
    whole = results[results["task"].isna()].set_index(["metric", "population"])
    assert whole.loc[(NAMED, POOL), "value"] <= 1
    assert whole.loc[(SHARE_FOUND, POOL), "lower"] == 0.0
    assert whole.loc[(TAIL, POOL), "upper"] < 1.0


def test_worlds_are_measured_once_with_the_attacks(data: InstructionDataModule) -> None:
    plan = audit_plan([Loss()], WORLDS)
    assert plan.references == sorted(WORLDS.references)
    assert plan.passes == 1 + 2 * 16
    WORLDS.check(data)
    with pytest.raises(UserError, match=r"fractions\.never"):
        ShadowWorlds(4).check(
            split(
                fractions=Fractions(
                    private=0.45, held_out=0.45, public=0.05, never=0.005, development=0.045
                )
            )
        )
    with pytest.raises(UserError, match="worlds: only a split whose coins are known here"):
        ShadowWorlds(4).check(ExternalDataModule("a.jsonl", "b.jsonl"))
    for count in (-2, 1, 2, 7):
        with pytest.raises(UserError, match=f"worlds is {count}: .*even number from 4 on"):
            ShadowWorlds(count)
