"""A run says in its folder that a defence without a certificate guarantees nothing."""

from pathlib import Path

import pytest

from callbacks.run import RunIdentity
from common.guarantee import Certificate, of_source, read
from kdmodules.responses import DatasetResponses
from tests.kdmodules.student_runs import make_data, make_student, make_trainer, write_teacher


@pytest.mark.parametrize("defence", [None, "goldfish"])
def test_an_uncertified_defence_is_told_as_such(defence: str | None, tmp_path: Path) -> None:
    data = make_data(tmp_path)
    student = make_student(write_teacher(tmp_path, data), DatasetResponses())
    trainer = make_trainer(tmp_path, max_steps=1, limit_val_batches=0)
    trainer.callbacks.append(RunIdentity("a", "student", defence=defence))
    trainer.fit(student, data)
    found = read(tmp_path)
    if defence is None:
        assert found is None
        return
    assert found is not None
    assert (found.certificate, found.defence, found.epsilon) == (Certificate.none, defence, None)
    assert found.line == "no guarantee: goldfish, measured only"
    assert of_source(str(tmp_path / "export")) == found
