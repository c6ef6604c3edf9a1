"""The blind baseline is one per pair of record sets, and its alarm is heard once."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from audits.context import AuditContext, SharedWork
from audits.scoring.blind_baseline import BlindOptions, BlindSide
from audits.scoring.shift_test import ShiftTest
from common.ranks import Ranks
from datamodules.synthetic import generate_records

QUICK = BlindOptions(repeats=1, folds=2)


def sides(ending: str) -> tuple[BlindSide, BlindSide]:
    """Two sides of 30 records; every member's response ends in a text of its own."""
    records = generate_records(60, 4)
    members = [replace(one, response=one.response + ending) for one in records[:30]]
    return BlindSide(members, np.arange(30)), BlindSide(records[30:], np.arange(30, 60))


def test_every_audit_of_a_run_hears_the_same_verdict_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    told: list[ShiftTest] = []
    measure = ShiftTest.of

    def counted(population: str, *arguments: object) -> ShiftTest:
        asked.append(population)
        return measure(population, *arguments)

    monkeypatch.setattr(ShiftTest, "of", counted)

    def context(shared: SharedWork) -> AuditContext:
        data = SimpleNamespace(dealt_by_coins=lambda population: False)
        model = SimpleNamespace(ranks=Ranks())
        return AuditContext(model, data, {}.get, {}.get, {}.get, shared, tell=told.append)

    shared = SharedWork()
    two = sides(" And that is all that there is to say.")
    first = context(shared).shift_test("private", *two, QUICK, 3)
    assert first.verdict.shifted is True
    assert {row["shifted"] for row in first.rows} == {True}
    assert context(shared).shift_test("private", *two, QUICK, 3) is first
    alike = context(shared).shift_test("private", *sides(""), QUICK, 3)
    assert alike.verdict.shifted is not True
    context(shared).shift_test("private", *sides(""), replace(QUICK, margin=0.1), 3)
    context(SharedWork()).shift_test("private", *sides(""), QUICK, 3)
    assert asked == ["private"] * 4
    assert [one.alarming for one in told] == [True, False, False, False]
    assert alike == measure("private", *sides(""), QUICK, 3)


def test_a_pass_is_made_again_where_an_attack_reads_more_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[bool] = []

    def scored(*_: object, outside_top: bool, **__: object) -> SimpleNamespace:
        made.append(outside_top)
        return SimpleNamespace(has_outside_top=outside_top)

    monkeypatch.setattr("audits.context.score_records", scored)
    monkeypatch.setattr("audits.context.EncodedFile", lambda *_: SimpleNamespace(counts={}))
    records = generate_records(3, 4)
    data = SimpleNamespace(population=lambda name: records)
    model = SimpleNamespace(encoder=SimpleNamespace(encode_all=list))
    context = AuditContext(model, data, {}.get, {}.get, {}.get, SharedWork())
    for outside_top in (False, False, True, False, True):
        context.token_statistics("private", outside_top)
    assert made == [False, True]


def test_passes_of_other_weights_are_forgotten() -> None:
    shared = SharedWork()
    shared.passes_at(3)["private", 2] = "of step 3"
    assert shared.passes_at(3) == {("private", 2): "of step 3"}
    assert shared.passes_at(4) == {}
