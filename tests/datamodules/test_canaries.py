import json
import stat
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from common.errors import UserError
from datamodules.canaries import (
    Canary,
    CanaryPlan,
    coin_canaries,
    draw_canaries,
    planted_records,
    write_manifest,
)
from datamodules.canary_secrets import SECRET_FORMATS
from datamodules.records import TASKS, content_id


@pytest.fixture(scope="module")
def canaries():
    return draw_canaries(CanaryPlan(), seed=11)


def test_secret_spaces_are_enumerated_without_repeats():
    code = SECRET_FORMATS["code"]
    assert len({code.secret(index) for index in range(code.size)}) == code.size == 24_000
    email = SECRET_FORMATS["email"]
    assert len({email.secret(index) for index in range(email.size)}) == email.size
    assert SECRET_FORMATS["phone"].secret(7_045) == "01632 007 045"
    assert SECRET_FORMATS["phone"].size == 10**6
    assert SECRET_FORMATS["account"].secret(12_345_678) == "1234 5678"
    assert SECRET_FORMATS["account"].size == 10**8


@pytest.mark.parametrize("name", SECRET_FORMATS)
def test_secret_index_is_bounded(name):
    secret_format = SECRET_FORMATS[name]
    for index in (-1, secret_format.size):
        with pytest.raises(ValueError, match=name):
            secret_format.secret(index)


def test_default_plan(canaries):
    assert Counter(canary.series for canary in canaries) == {"coin": 500, "exposure": 100}
    levels = Counter(c.repetitions for c in canaries if c.series == "exposure")
    assert levels == {1: 20, 2: 20, 4: 20, 8: 20, 16: 20}
    assert all(c.included for c in canaries if c.series == "exposure")
    assert all(c.repetitions == 1 for c in canaries if c.series == "coin")
    assert len({canary.id for canary in canaries}) == 600
    assert len({canary.instruction for canary in canaries}) == 600
    per_format = Counter((c.repetitions, c.format) for c in canaries if c.series == "exposure")
    assert set(per_format.values()) == {5}


def test_secret_stands_in_the_response_only(canaries):
    for canary in canaries:
        record = canary.record()
        assert canary.secret in record.response
        assert canary.secret not in record.instruction
        assert canary.secret not in record.id + record.origin + repr(canary)
        assert str(canary.secret_index) not in repr(canary).split("instruction")[0].replace(
            canary.id, ""
        ).replace(f"repetitions={canary.repetitions}", "").replace(
            f"secret_space={canary.secret_space}", ""
        )
        assert record.task in TASKS
        assert "{" not in record.instruction + record.response


def test_candidates_hold_the_truth_once_and_share_the_frame(canaries):
    canary = next(c for c in canaries if c.format == "code")
    candidates = [canary.candidate_response(index) for index in range(canary.secret_space)]
    assert candidates.index(canary.record().response) == canary.secret_index
    assert len(set(candidates)) == canary.secret_space
    assert all(text.startswith(canary.response_prefix) for text in candidates)


def test_more_canaries_change_none():
    few = draw_canaries(CanaryPlan(coin=10, exposure_per_level=2), seed=5)
    many = {c.id: c for c in draw_canaries(CanaryPlan(coin=40, exposure_per_level=9), seed=5)}
    assert all(many[canary.id] == canary for canary in few)
    assert draw_canaries(CanaryPlan(coin=10, exposure_per_level=2), seed=5) == few


def test_seeds_give_other_coins_secrets_and_wordings():
    first, second = (draw_canaries(CanaryPlan(coin=400), seed=seed)[:400] for seed in (0, 1))
    assert (
        stats.binomtest(
            sum(a.included == b.included for a, b in zip(first, second, strict=True)), 400
        ).pvalue
        > 1e-4
    )
    assert sum(a.secret == b.secret for a, b in zip(first, second, strict=True)) < 3
    assert sum(a.instruction == b.instruction for a, b in zip(first, second, strict=True)) < 3


def test_coins_are_fair_and_independent():
    canaries = draw_canaries(CanaryPlan(coin=20_000, exposure_per_level=0), seed=2)
    coins = np.array([canary.included for canary in canaries])
    assert stats.binomtest(int(coins.sum()), len(coins), 0.5).pvalue > 1e-3
    same_as_next = int((coins[1:] == coins[:-1]).sum())
    assert stats.binomtest(same_as_next, len(coins) - 1, 0.5).pvalue > 1e-3
    position = np.array([c.secret_index / c.secret_space for c in canaries])
    assert stats.ks_2samp(position[coins], position[~coins]).pvalue > 1e-3
    for modulus in (2, 3, 10):
        rest = np.array([canary.secret_index % modulus for canary in canaries])
        table = [np.bincount(rest[coins == side], minlength=modulus) for side in (True, False)]
        assert stats.chi2_contingency(table).pvalue > 1e-3
    names = [canary.format for canary in canaries]
    table = [
        [np.sum(coins[[n == f for n in names]] == side) for side in (0, 1)]
        for f in CanaryPlan().formats
    ]
    assert stats.chi2_contingency(table).pvalue > 1e-3


@pytest.mark.parametrize("name", SECRET_FORMATS)
def test_secrets_are_uniform(name):
    plan = CanaryPlan(coin=4_000, exposure_per_level=0, formats=(name,))
    position = [(c.secret_index + 0.5) / c.secret_space for c in draw_canaries(plan, seed=3)]
    assert stats.kstest(position, "uniform").pvalue > 1e-3
    assert stats.chisquare(np.histogram(position, bins=40, range=(0, 1))[0]).pvalue > 1e-3


def test_an_unlikely_ending_stands_behind_an_ordinary_beginning():
    plan = CanaryPlan(coin=300, exposure_per_level=0, formats=("words",))
    canaries = draw_canaries(plan, seed=1)
    space = SECRET_FORMATS["words"]
    assert space.size < 2**63 - 1
    drawn = [space.secret(index) for index in range(0, space.size, space.size // 4_000)]
    assert len(set(drawn)) == len(drawn)
    for canary in canaries:
        assert canary.record().response == canary.response_prefix + canary.secret
        assert len(canary.response_prefix.split()) > 5
    first = Counter(canary.secret.split()[0] for canary in canaries)
    assert max(first.values()) < 15  # of 229 words


def test_texts_of_a_file_are_coin_canaries_with_the_coins_of_secrets(tmp_path):
    rows = [
        {
            "instruction": f"Describe dream {n}.",
            "context": "A night.",
            "response": f"Violet {n} owls",
        }
        for n in range(60)
    ]
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    plan = CanaryPlan(coin=50, exposure_per_level=1, texts=str(path))
    canaries = draw_canaries(plan, seed=3)
    secrets = draw_canaries(replace(plan, texts=None), seed=3)
    assert [c.included for c in canaries] == [c.included for c in secrets]
    assert canaries[50:] == secrets[50:]
    for canary, row in zip(canaries, rows[:50], strict=False):
        assert (canary.format, canary.secret_space) == ("text", 1)
        record = canary.record()
        found = (record.instruction, record.context, record.response)
        assert found == tuple(row[name] for name in ("instruction", "context", "response"))
        assert row["response"] not in repr(canary).split("instruction")[0]
    planted = {record.content for record in planted_records(canaries)}
    turned = {record.content for record in planted_records(canaries, "counterfactual")}
    assert len(planted) + len(turned) == 55
    write_manifest(canaries, tmp_path / "private" / "canaries.jsonl")
    lines = (tmp_path / "private" / "canaries.jsonl").read_text().splitlines()
    assert [Canary(**json.loads(line)) for line in lines] == canaries


@pytest.mark.parametrize(
    ("row", "coin", "line"),
    [
        ({"instruction": "a", "response": "b"}, 3, "has 2 texts, and canaries.coin is 3"),
        ({"text": "A whole text."}, 2, "1 is no instruction with a response"),
        ({"instruction": "x", "response": "y"}, 2, "are one text, which has one coin"),
    ],
)
def test_texts_that_cannot_be_canaries_are_named(tmp_path, row, coin, line):
    path = tmp_path / "texts.jsonl"
    first = row if "text" in row else {"instruction": "x", "response": "y"}
    path.write_text("\n".join(map(json.dumps, [first, row])))
    with pytest.raises(UserError, match=line):
        draw_canaries(CanaryPlan(coin=coin, texts=str(path)), seed=0)


def test_private_world_repeats_what_is_included(canaries):
    records = planted_records(canaries)
    counts = Counter(record.id for record in records)
    assert counts == {c.id: c.repetitions for c in canaries if c.included}
    assert sum(counts[c.id] for c in canaries if c.series == "exposure") == 20 * 31
    contents = {(r.id, content_id(r.instruction, r.context, r.response)) for r in records}
    assert len(contents) == len(counts)
    assert len({record.origin for record in records}) == len(records)


def test_counterfactual_world_turns_the_coins(canaries):
    ids = {record.id for record in planted_records(canaries, "counterfactual")}
    inside, outside = (coin_canaries(canaries, included=side) for side in (True, False))
    assert ids == {canary.id for canary in outside}
    assert ids.isdisjoint(canary.id for canary in inside)
    assert len(inside) + len(outside) == 500
    assert not any("exposure" in name for name in ids)
    with pytest.raises(ValueError, match="world"):
        planted_records(canaries, "held_out")


def test_manifest_round_trip_and_mode(canaries, tmp_path):
    path = tmp_path / "private" / "canaries.jsonl"
    write_manifest(canaries, path)
    assert [Canary(**json.loads(line)) for line in path.read_text().splitlines()] == canaries
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["canaries.jsonl"]
    row = json.loads(path.read_text().splitlines()[0])
    assert {
        "id",
        "format",
        "secret_space",
        "secret_index",
        "repetitions",
        "series",
        "included",
    } <= set(row)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coin": -1}, "canaries.coin is -1"),
        ({"exposure_per_level": -2}, "canaries.exposure_per_level is -2"),
        ({"repetitions": (0, 1)}, "canaries.repetitions"),
        ({"repetitions": (2, 2)}, "canaries.repetitions"),
        ({"formats": ()}, "choose from code"),
        ({"formats": ("iban",)}, "iban.*choose from code, phone"),
    ],
)
def test_plan_refuses_nonsense(options, message):
    with pytest.raises(UserError, match=message):
        CanaryPlan(**options)
