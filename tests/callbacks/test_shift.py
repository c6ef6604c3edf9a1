"""The blind baseline is one per run and pair of record sets, and its alarm is heard once."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from lightning.pytorch import Trainer

from audits.scoring.blind_baseline import BlindOptions, BlindSide
from audits.scoring.shift_test import ShiftTest
from callbacks.shift import shared_shift_test
from datamodules.synthetic import generate_records

QUICK = BlindOptions(repeats=1, folds=2)


def sides(ending: str) -> tuple[BlindSide, BlindSide]:
    """Two sides of 30 records; every member's response ends in a text of its own."""
    records = generate_records(60, 4)
    members = [replace(one, response=one.response + ending) for one in records[:30]]
    return BlindSide(members, np.arange(30)), BlindSide(records[30:], np.arange(30, 60))


def quiet_trainer() -> Trainer:
    return Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)


def test_every_audit_of_a_run_hears_the_same_verdict_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    measure = ShiftTest.of

    def counted(population: str, *arguments: object) -> ShiftTest:
        asked.append(population)
        return measure(population, *arguments)

    monkeypatch.setattr(ShiftTest, "of", counted)
    trainer, other = quiet_trainer(), quiet_trainer()
    two = sides(" And that is all that there is to say.")
    with pytest.warns(UserWarning, match="SHIFTED DATA"):
        first = shared_shift_test(trainer, "private", *two, QUICK, 3)
    assert first.verdict.shifted is True
    assert {row["shifted"] for row in first.rows} == {True}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert shared_shift_test(trainer, "private", *two, QUICK, 3) is first
        alike = shared_shift_test(trainer, "private", *sides(""), QUICK, 3)
    assert alike.verdict.shifted is not True
    shared_shift_test(trainer, "private", *sides(""), replace(QUICK, margin=0.1), 3)
    shared_shift_test(other, "private", *sides(""), QUICK, 3)
    assert asked == ["private"] * 4
    assert alike == measure("private", *sides(""), QUICK, 3)
