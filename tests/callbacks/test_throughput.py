"""Throughput of a fit: rates, shares and rows against what was trained and what the clock said."""

import itertools
from pathlib import Path

import pytest
import torch

from audits.results import read_table
from callbacks.audit import RunTables
from callbacks.throughput import PARTS, Throughput
from common.errors import UserError
from kdmodules.models.flops import ModelCost, PassSize
from kdmodules.phase_clock import PhaseClock
from kdmodules.responses import StudentResponses
from kdmodules.sampling.sampler import SamplingSettings
from kdmodules.student import StudentModule
from kdmodules.text_loss import TextStep, text_batch
from tests.kdmodules.student_runs import make_data, make_student, make_trainer, write_teacher

SPENT = {"data": 1.0, "sampling": 2.0, "teacher": 3.0, "student": 4.0, "validation": 10.0}


class Recording(Throughput):
    """Keeps the size of every batch that it counts."""

    def __init__(self, peak_flops: float | None) -> None:
        super().__init__(1, peak_flops)
        self.sizes: list[PassSize] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self.sizes.append(PassSize.of(outputs["trained_on"]))


def fit(folder: Path, callback: Throughput) -> tuple[StudentModule, dict[str, float]]:
    """Two steps of ImitKD; returns the student and its rows by metric."""
    data = make_data(folder)
    sampling = SamplingSettings(max_new_tokens=4)
    student = make_student(write_teacher(folder, data), StudentResponses(sampling))
    callbacks = [callback, RunTables()]
    trainer = make_trainer(folder, max_steps=2, val_check_interval=2, callbacks=callbacks)
    trainer.fit(student, datamodule=data)
    rows = read_table(folder, "results").to_pylist()
    assert {(row["audit"], row["name"], row["step"]) for row in rows} == {
        ("throughput", "training", 2)
    }
    return student, {row["metric"]: row["value"] for row in rows}


def test_rates_are_of_the_time_of_steps_and_shares_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Twenty seconds go by between two looks at the clock; rows come with the third.
    looks = itertools.count(1)

    def seconds(clock: PhaseClock) -> dict[str, float]:
        look = next(looks)
        return {name: look * spent for name, spent in SPENT.items()}

    monkeypatch.setattr(PhaseClock, "seconds", seconds)
    callback = Recording(peak_flops=1e9)
    student, found = fit(tmp_path, callback)
    assert {name: found[f"share_{name}"] for name in PARTS} == {
        name: spent / 20.0 for name, spent in SPENT.items()
    }
    assert len(callback.sizes) == 2
    assert found["scored_tokens_per_second"] == sum(one.scored for one in callback.sizes) / 30.0
    assert found["tokens_per_second"] == sum(one.tokens for one in callback.sizes) / 30.0
    assert found["records_per_second"] == 12 / 30.0
    taught, learnt = (
        ModelCost.of(lm) for lm in (student.teachers.models[0], student.language_model)
    )
    operations = sum(learnt.training(one) + taught.forward(one) for one in callback.sizes)
    assert found["model_flop_utilisation"] == pytest.approx(operations / 30.0 / 1e9)
    assert 100 < found["peak_memory_mb"] < 1e6


def test_plain_text_is_work_of_the_student_and_of_those_who_teach_it(tmp_path: Path) -> None:
    callback = Recording(None)
    student, _ = fit(tmp_path, callback)
    taught, learnt = (
        ModelCost.of(lm) for lm in (student.teachers.models[0], student.language_model)
    )
    alone = callback._operations(student, callback.sizes[0])
    blocks, text = torch.zeros(2, 8, dtype=torch.int64), PassSize(16, 128, 14)
    two = TextStep((text_batch(blocks), text_batch(blocks)), 1.0)
    operations = callback._operations(student, callback.sizes[0], two)
    assert operations == alone + 2 * learnt.training(text)
    taught_too = TextStep((text_batch(blocks),), 1.0, kd_ratio=0.5)
    expected = alone + learnt.training(text) + taught.forward(text)
    operations = callback._operations(student, callback.sizes[0], taught_too)
    assert operations == pytest.approx(expected)


def test_every_part_of_a_step_is_seen(tmp_path: Path) -> None:
    _, found = fit(tmp_path, Throughput())
    shares = {name: found[f"share_{name}"] for name in PARTS}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert all(share > 0 for share in shares.values()), shares
    # Four tokens one after the other take longer than one pass of a model of the same size.
    assert shares["sampling"] > shares["teacher"]
    assert "model_flop_utilisation" not in found  # nobody published this machine's peak


def test_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="peak_flops is 0"):
        Throughput(peak_flops=0.0)
    with pytest.raises(UserError, match="every_n_steps is 0"):
        Throughput(every_n_steps=0)
