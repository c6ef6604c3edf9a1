"""Who met what: the answer to audits against the records that each world's training is handed."""

import numpy as np
import pytest
import torch
from scipy import stats

from audits.membership.attacks import RMIA, LiRA
from audits.membership.measurements import NEVER, Scored
from audits.membership.single_records import ShadowWorlds
from audits.membership.view import AuditView
from audits.statistics import auroc
from common.errors import UserError
from datamodules.canaries import CanaryPlan
from datamodules.instruction import InstructionDataModule
from datamodules.split_options import SplitOptions
from datamodules.splits import in_world, split_records
from datamodules.synthetic import generate_records
from tests.audits.membership.conftest import planted_confidences

POPULATIONS = ("private", "held_out", "public", "never", "canary_in", "canary_out")
WORLDS = range(4)
CANARIES = CanaryPlan(coin=400, exposure_per_level=2, repetitions=(1, 4))


def module(shadow: int | None = None, **splits: object) -> InstructionDataModule:
    options = SplitOptions(seed=2, shadow=shadow, **splits)
    found = InstructionDataModule(
        n_records=300, vocabulary=300, splits=options, canaries=CANARIES, template="alpaca"
    )
    found.setup("fit")
    return found


@pytest.fixture(scope="module")
def audited() -> InstructionDataModule:
    return module()


def trained_on(data: InstructionDataModule, split: str) -> set[str]:
    return {record.content for record in data.training_records(split)}


def test_the_module_knows_what_every_teacher_was_handed(audited: InstructionDataModule) -> None:
    handed = {
        "teacher": trained_on(audited, "private"),
        "counterfactual": trained_on(audited, "held_out"),
        **{f"shadow{j}": trained_on(module(j), "private") for j in WORLDS},
        **dict.fromkeys(("base", "control", "shadowy"), set()),
    }
    exposed = [one.record() for one in audited.canaries if one.series == "exposure"]
    for records in (exposed, *map(audited.population, POPULATIONS)):
        for reference, contents in handed.items():
            expected = [record.content in contents for record in records]
            assert audited.met(reference, records) == expected, reference
    inside, outside = (audited.population(name) for name in ("canary_in", "canary_out"))
    assert audited.met("counterfactual", outside) == [True] * len(outside)
    assert not any(audited.met("counterfactual", inside))


def test_a_shadow_world_throws_the_coins_of_canaries_anew(audited: InstructionDataModule) -> None:
    """Fair in every world, independent of the first throw and of each other but for the mirrors."""
    worlds = [audited, *map(module, WORLDS)]
    for other in worlds[1:]:
        assert [(c.id, c.secret_index) for c in other.canaries] == [
            (c.id, c.secret_index) for c in audited.canaries
        ]
        assert all(c.included for c in other.canaries if c.series == "exposure")
    coins = [[c.included for c in one.canaries if c.series == "coin"] for one in worlds]
    for number, mine in enumerate(coins):
        assert stats.binomtest(sum(mine), len(mine)).pvalue > 1e-3
        for earlier, theirs in enumerate(coins[:number]):
            agree = sum(a == b for a, b in zip(mine, theirs, strict=True))
            if number % 2 == 0 and earlier == number - 1:  # worlds 2j and 2j + 1; the first is at 0
                assert agree == 0
            else:
                assert stats.binomtest(agree, len(mine)).pvalue > 1e-3


def test_worlds_are_pairs_in_which_every_record_is_once(audited: InstructionDataModule) -> None:
    """The pool's coins too; the target's own world is nobody's mirror."""
    pool = audited.population("private") + audited.population("held_out")
    coins = [audited.met("teacher", pool), *(audited.met(f"shadow{j}", pool) for j in range(6))]
    matches = np.array([[np.mean(np.array(a) == np.array(b)) for b in coins] for a in coins])
    assert all(matches[j, j + 1] == 0.0 for j in (1, 3, 5))
    for a, b in zip(*np.triu_indices(7, 1), strict=True):
        assert (a % 2 == 1 and b == a + 1) or 0.3 < matches[a, b] < 0.7


def test_placebo_coins_are_thrown_alike_and_train_nobody(audited: InstructionDataModule) -> None:
    never = audited.population("never")
    coins = [audited.placebo(f"shadow{j}", never) for j in WORLDS]
    assert coins[1] == [not coin for coin in coins[0]]
    assert coins[3] == [not coin for coin in coins[2]]
    assert 0 < sum(coins[0]) < len(never)
    clusters = audited.clusters(never)
    for thrown in coins:
        assert len(set(zip(clusters, thrown, strict=True))) == len(set(clusters))
    for j in WORLDS:
        contents = {one.content for one in never}
        assert not contents & trained_on(module(j), "private")
        assert not any(audited.met(f"shadow{j}", never))


@pytest.mark.parametrize("parts", [1, 3])
def test_another_world_is_what_splitting_again_would_give(parts: int) -> None:
    records = generate_records(200, 0)
    first = split_records(records, SplitOptions(seed=5, private_parts=parts))
    options = SplitOptions(seed=5, private_parts=parts, shadow=1)
    assert in_world(first, options) == split_records(records, options) != first
    assert in_world(in_world(first, options), SplitOptions(seed=5, private_parts=parts)) == first


def test_a_world_whose_protocol_throws_no_coins_has_no_shadow() -> None:
    data = module(protocol="as_released", held_out_rows=60)
    with pytest.raises(UserError, match="only the swap protocol throws coins"):
        data.met("shadow0", data.population("private"))
    with pytest.raises(UserError, match="only the swap protocol throws coins"):
        ShadowWorlds(4).check(data)
    private, held_out = (data.population(name) for name in ("private", "held_out"))
    assert data.met("counterfactual", private + held_out) == [False] * len(private) + [True] * len(
        held_out
    )


@pytest.mark.parametrize(
    "attack", [RMIA, LiRA, lambda names: LiRA(names, "online")], ids=["rmia", "lira", "online"]
)
def test_attacks_with_references_find_a_leak_of_canaries(
    audited: InstructionDataModule, attack: object
) -> None:
    """phi ~ N(hardness + 2 [met], 1), hardness ~ N(-5, 3): met by the coins of each world.

    Where the shadow worlds shared the coins of the first, no reference would have met what the
    audited model met, and the attacks would be undefined or look the wrong way.
    """
    names = [f"shadow{j}" for j in WORLDS]
    inside, outside = (audited.population(name) for name in ("canary_in", "canary_out"))
    records = inside + outside
    member = np.arange(len(records)) < len(inside)
    handed = {name: trained_on(module(j), "private") for name, j in zip(names, WORLDS, strict=True)}
    rng = np.random.default_rng(1)
    hardness = rng.normal(-5, 3, len(records))
    aside = rng.normal(-5, 3, 100)

    def passes(leak: float) -> dict[Scored, object]:
        found = {
            Scored(): planted_confidences(
                hardness + leak * member + rng.normal(size=len(records)), records
            )
        }
        for name in names:
            met = np.array([record.content in handed[name] for record in records])
            own = hardness + leak * met + rng.normal(size=len(records))
            found[Scored(model=name)] = planted_confidences(own, records)
        for model in ("audited", *names):
            others = planted_confidences(aside + rng.normal(size=len(aside)))
            found[Scored(model=model, records=NEVER)] = others
        return found

    met = {name: torch.tensor(audited.met(name, records)) for name in names}
    for leak in (2.0, 0.0):
        view = AuditView(records, passes(leak), met=met)
        tuned = attack(names).tuned([view])
        defined = tuned.defined(view)
        assert defined.float().mean() > 0.8
        scores = tuned.score(view.where(defined)).numpy()
        mine = member[defined.numpy()]
        found = auroc(scores[mine], scores[~mine])
        if leak:
            assert found.lower > 0.75
            assert found.value > auroc(*(hardness[member] + leak, hardness[~member])).value + 0.1
        else:
            assert found.lower < 0.5 < found.upper
