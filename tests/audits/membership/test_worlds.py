"""Shots of an attack are what the audited model's own world has trained on, or has not."""

from types import SimpleNamespace

import pytest

from callbacks.run import RunContext, RunIdentity
from common.roles import Role
from datamodules.instruction import InstructionDataModule
from datamodules.split_options import Roles, SplitOptions


@pytest.mark.parametrize(
    ("role", "split", "trained"),
    [
        (Role.teacher, "private", "private"),
        (Role.student, "public", "private"),
        (Role.counterfactual_teacher, "held_out", "held_out"),
        (Role.counterfactual, "public", "held_out"),
        (Role.external, "held_out", "held_out"),
    ],
)
def test_nonmember_shots_are_never_what_the_teacher_met(
    role: Role, split: str, trained: str
) -> None:
    roles = Roles(audit=0.5, shots=0.5, population=0.0, calibration=0.0)
    data = InstructionDataModule(
        n_records=160, vocabulary=300, splits=SplitOptions(roles=roles), template="alpaca"
    )
    data.setup("fit")
    data.reserve(["shots"])
    trainer = SimpleNamespace(callbacks=[RunIdentity("run", role)])
    context = RunContext(trainer, SimpleNamespace(training_split=split), data)
    met = {record.content for record in data.training_records(trained)}
    pool = context.pool_of_world()
    members, nonmembers = pool("private", "shots"), pool("held_out", "shots")
    assert members
    assert nonmembers
    assert all(record.content in met for record in members)
    assert not any(record.content in met for record in nonmembers)
