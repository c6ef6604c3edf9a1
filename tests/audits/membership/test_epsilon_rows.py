"""Bounds on epsilon: what they are of, what is paid for, and how often the largest is too large."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from audits.answer import model_answer
from audits.membership.any_leak import MAX_T
from audits.membership.attacks import RMIA, Attack, LiRA, Loss, Reference
from audits.membership.dataset_inference import SET_EFFECT
from audits.membership.epsilon_rows import READS_THE_COINS, epsilon_rows, reads_the_coins
from audits.membership.evaluation import Opposition, Side, evaluate
from audits.membership.measurements import NEVER, Scored
from audits.membership.metrics import ScoredRecords
from audits.membership.view import AuditView
from audits.model_card.privacy_section import privacy_section
from audits.results import table_from_rows
from audits.statistics import epsilon_lower_bound
from audits.statistics.one_run_mu import mu_lower_bound
from benchmarks.simulate_epsilon import SETTINGS, allowed
from tests.audits.membership.conftest import planted_confidences, records

N = 60


def scored(population: str, shift: float, seed: int) -> ScoredRecords:
    return ScoredRecords(
        population,
        [f"{population}-{i}" for i in range(N)],
        ["open_qa"] * N,
        np.arange(N, dtype=np.int64) + 10**6 * seed,
        np.random.default_rng(seed).normal(shift, 1.0, N),
        skipped=seed,
    )


SIDES = (scored("private", 4.0, 1), scored("held_out", 0.0, 2))


@pytest.mark.parametrize("looks", [1, 7])
def test_rows_are_the_bounds_of_clusters_at_two_deltas(looks: int) -> None:
    paired = [
        replace(side, clusters=side.clusters[0] + np.arange(N, dtype=np.int64) // 2)
        for side in SIDES
    ]
    for sides, units in ((SIDES, N), (paired, N // 2)):
        *rows, mu = epsilon_rows("min_k", {"k": 0.2}, *sides, unit="cluster", looks=looks)
        means = [side.scores.reshape(units, -1).mean(axis=1) for side in sides]
        deltas = (0.0, (2 * units) ** -1.1)
        for row, delta in zip(rows, deltas, strict=True):
            expected = epsilon_lower_bound(*means, delta, 1 - 0.05 / looks)
            assert (row["value"], row["lower"]) == (expected.value, expected.lower)
            shown = {"k": 0.2, "delta": delta, "unit": "cluster", "looks": looks}
            assert row["params"] == shown
            assert (row["n_members"], row["n_nonmembers"], row["skipped"]) == (units, units, 3)
        assert mu["value"] == mu_lower_bound(*means, 1 - 0.05 / looks).value > 0.1
        assert (mu["metric"], mu["params"]) == (
            "mu_lower",
            {"k": 0.2, "unit": "cluster", "looks": looks},
        )
        assert float(str(rows[0]["value"])) > 1.0
        assert rows[1]["value"] < rows[0]["value"]
    identity = {"run": "a", "role": "teacher", "step": 1, "audit": "membership"}
    table = table_from_rows("results", [{**identity, **row} for row in rows]).to_pylist()
    assert [json.loads(one["params"])["delta"] for one in table] == list(deltas)


def test_a_cluster_on_both_sides_or_an_empty_side_has_no_bound() -> None:
    mixed = replace(SIDES[1], clusters=SIDES[0].clusters)
    empty = SIDES[1].where(np.zeros(N, dtype=bool))
    for other in (mixed, empty):
        rows = epsilon_rows("loss", {}, SIDES[0], other, "cluster", 1)
        assert [row.get("value") for row in rows] == [None, None, None]


@pytest.mark.slow
def test_the_largest_of_ten_looks_is_rarely_above_the_truth() -> None:
    """At most 5% once the looks are paid for; about 20% where they are not."""
    draws = 120
    for number, often in ((0, True), (1, False)):
        setting = SETTINGS[number]
        assert (setting.epsilon, setting.attacks) == (0.0, 10)
        rng = np.random.default_rng(number)
        above = sum(setting.largest(rng) > 0 for _ in range(draws))
        assert (above > allowed(draws)) == often
    assert allowed(draws) == stats.binom.ppf(0.999, draws, 0.05) == 14


def side_of(met: bool, seed: int) -> Side:
    """Records under the audited model and references, of which one knows the audit's coins."""
    rng = np.random.default_rng(seed)
    base = records((1,))[0]
    audited = [replace(base, id=f"{seed}-{i}") for i in range(N)]
    names = ("counterfactual", "teacher", "shadow0", "base")
    own = {Scored(): planted_confidences(rng.normal(4.0 * met, 1.0, N), audited)}
    others = {
        Scored(model=name): planted_confidences(rng.normal(0, 1, N), audited) for name in names
    }
    aside = {
        Scored(model=name, records=NEVER): planted_confidences(rng.normal(0, 1, 30))
        for name in ("audited", *names)
    }
    coins = {
        "counterfactual": torch.full((N,), not met),
        "teacher": torch.full((N,), met),
        "shadow0": torch.tensor(rng.random(N) < 0.5),
        "base": torch.zeros(N, dtype=torch.bool),
    }
    view = AuditView(audited, own | others | aside, met=coins)
    return Side(view, [one.id for one in audited])


ATTACKS: list[Attack] = [
    Loss(),
    Reference("base"),
    Reference("counterfactual"),
    Reference("teacher"),
    RMIA(["shadow0"]),
    LiRA(["shadow0", "counterfactual"]),
]


@pytest.mark.parametrize("unit", ["record", "cluster"])
def test_an_audit_bounds_epsilon_by_attacks_that_do_not_read_its_coins(unit: str) -> None:
    sides = {"private": side_of(True, 1), "held_out": side_of(False, 2)}
    pair = Opposition("private", "held_out", fair_coins=True, unit=unit)
    found = evaluate(ATTACKS, [0.1], sides, [pair], {}, named=True)
    bounds = [row for row in found.results if row["metric"] == "epsilon_lower"]
    assert [row["name"] for row in bounds] == ["loss"] * 2 + ["reference"] * 2 + ["rmia"] * 2
    assert {row["params"]["reference"] for row in bounds[2:4]} == {"base"}
    assert {(row["params"]["unit"], row["params"]["looks"]) for row in bounds} == {(unit, 6)}
    assert bounds[0]["value"] > 1.0
    (together,) = [row for row in found.results if row["metric"] == MAX_T]
    assert together["params"]["attacks"] == 3
    views = [side.view for side in sides.values()]
    read = [reads_the_coins(attack, *views) for attack in ATTACKS]
    assert read == [False, False, True, True, False, True]


def test_an_attack_that_ranks_as_another_is_no_further_look() -> None:
    """RMIA with one reference is the reference attack by what it computes."""
    sides = {"private": side_of(True, 1), "held_out": side_of(False, 2)}
    never = {one: table for one, table in sides["private"].view.passes.items() if one.records}
    shared = {one: table for one, table in never.items() if one.records == NEVER}
    theirs = sides["held_out"].view
    sides["held_out"] = replace(
        sides["held_out"], view=replace(theirs, passes={**theirs.passes, **shared})
    )
    pair = Opposition("private", "held_out", fair_coins=True, dealt_by_coins=True)

    def looks(*attacks: Attack) -> tuple[set[object], set[object]]:
        found = evaluate(attacks, [0.1], sides, [pair], {}, named=True).results
        bounds = [row["params"]["looks"] for row in found if row["metric"] == "epsilon_lower"]
        counted = (MAX_T, SET_EFFECT)
        return set(bounds), {r["params"]["attacks"] for r in found if r["metric"] in counted}

    base = Reference("base")
    assert looks(Loss(), base, RMIA(["base"])) == looks(Loss(), base) == ({2}, {2})
    for other in (RMIA(["base"], a=0.3), RMIA(["shadow0"]), RMIA(["base", "shadow0"])):
        assert looks(Loss(), base, other) == ({3}, {3})
    # Without that attack beside it RMIA counts as any other does.
    assert looks(Loss(), RMIA(["base"])) == ({2}, {2})
    found = evaluate([Loss(), base, RMIA(["base"])], [0.1], sides, [pair], {}, named=True)
    run = {"run": "student", "role": "student", "step": 1, "seed": 0, "audit": "membership"}
    table = table_from_rows("results", [run | dict(row) for row in found.results]).to_pylist()
    told = model_answer(table, label="Student", run="student", role="student").by_access
    assert [one.membership.name for one in told] == ["reference"]


def test_what_a_reference_leaks_is_no_leak_of_the_model() -> None:
    """The counterfactual gives all of its members away, the audited model and the base nothing."""
    rng = np.random.default_rng(3)
    base, sides = records((1,))[0], {}
    for population in ("private", "held_out"):
        audited = [replace(base, id=f"{population}-{i}") for i in range(N)]
        met = population == "held_out"
        shift = {"audited": 0.0, "base": 0.0, "counterfactual": 4.0 * met}
        passes = {
            Scored(model=name): planted_confidences(rng.normal(leak, 1.0, N), audited)
            for name, leak in shift.items()
        }
        view = AuditView(audited, passes, met={"counterfactual": torch.full((N,), met)})
        sides[population] = Side(view, [one.id for one in audited])
    attacks = [Loss(), Reference("base"), Reference("counterfactual")]
    found = evaluate(attacks, [0.1], sides, [Opposition("private", "held_out", False)], {}, False)
    (row,) = [row for row in found.results if row["metric"] == MAX_T]
    assert row["params"]["attacks"] == 2
    assert row["p_value"] > 0.05
    told = [row for row in found.results if row["metric"] == READS_THE_COINS]
    assert [row["params"] for row in told] == [{"reference": "counterfactual"}]
    run = {"run": "student", "role": "student", "step": 1, "seed": 0, "audit": "membership"}
    table = table_from_rows("results", [run | dict(row) for row in found.results])
    card = privacy_section(table.to_pylist())
    lines = [line for line in card.splitlines() if line.startswith(("| loss", "| reference"))]
    assert ["tells of two models" in line for line in lines] == [False, False, True]
    assert not any("leaks" in line for line in lines)


def test_every_population_with_coins_is_a_look() -> None:
    """The largest bound of an audit of the pool and of canaries is one of twice as many."""
    names = ("private", "held_out", "canary_in", "canary_out", "public")
    sides = {name: side_of(name in ("private", "canary_in"), i) for i, name in enumerate(names)}
    pairs = [
        Opposition("private", "held_out", fair_coins=True),
        Opposition("canary_in", "canary_out", fair_coins=True, unit="record"),
        Opposition("public", "held_out", fair_coins=False),
    ]
    found = evaluate([Loss(), Reference("base")], [0.1], sides, pairs, {}, named=True)
    bounds = [row for row in found.results if row["metric"] == "epsilon_lower"]
    assert {row["population"] for row in bounds} == {"private", "canary_in"}
    assert {row["params"]["looks"] for row in bounds} == {4}


def test_there_is_no_bound_without_coins_or_at_a_checkpoint_that_nobody_named() -> None:
    sides = {"private": side_of(True, 1), "held_out": side_of(False, 2)}
    for coins, named in ((False, True), (True, False)):
        pair = Opposition("private", "held_out", fair_coins=coins)
        found = evaluate([Loss()], [0.1], sides, [pair], {}, named)
        assert all(row["metric"] != "epsilon_lower" for row in found.results)


def test_one_correction_serves_both_sides_of_an_audit() -> None:
    """Tuned on each side alone, the scores of one would not compare with the other's."""
    names = ["shadow0", "shadow1", "shadow2"]
    rng = np.random.default_rng(5)
    base = records((1,))[0]
    sides = {}
    for number, name in enumerate(("private", "held_out", "public")):
        audited = [replace(base, id=f"{number}-{i}") for i in range(N)]
        met = {one: torch.tensor(rng.random(N) < 0.5 * (number < 2)) for one in names}
        passes = {Scored(): planted_confidences(rng.normal(-3, 1, N), audited)}
        for one in names:
            level = rng.normal(-3, 1, N) + 0.5 * met[one].numpy()
            passes[Scored(model=one)] = planted_confidences(level, audited)
        for one in ("audited", *names):
            passes[Scored(model=one, records=NEVER)] = planted_confidences(rng.normal(-3, 1, 20))
        sides[name] = Side(AuditView(audited, passes, met=met), [one.id for one in audited])
    alone = {RMIA(names).tuned([side.view])._correction for side in sides.values()}
    assert len(alone) > 1
    pairs = [Opposition(one, "held_out", fair_coins=False) for one in ("private", "public")]
    found = evaluate([RMIA(names)], [0.1], sides, pairs, {}, named=False)
    rows = {row["population"]: row["value"] for row in found.results if row["metric"] == "a"}
    assert set(rows) == set(sides)
    both = RMIA(names).tuned([sides["private"].view, sides["held_out"].view])
    assert set(rows.values()) == {both._correction}
