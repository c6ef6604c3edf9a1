"""Strategies that divide, clip or shard in ways of their own."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from common.errors import UserError
from kdmodules import language_model, strategies
from kdmodules.responses import DatasetResponses
from kdmodules.strategies import keeps_gradients, require_package, require_supported
from kdmodules.teachers import TeacherWeights
from tests.kdmodules.student_runs import make_data, make_student, make_trainer, write_teacher


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategies, "find_spec", lambda name: None)
    for strategy in (
        "deepspeed_stage_2",
        SimpleNamespace(class_path="lightning.pytorch.strategies.DeepSpeedStrategy"),
    ):
        with pytest.raises(UserError, match="pip install deepspeed"):
            require_package(strategy)
    require_package("ddp")
    require_package(None)
    monkeypatch.setattr(strategies, "find_spec", lambda name: object())
    require_package("deepspeed_stage_2")


class ZeroStage(SimpleNamespace):
    """Stands for DeepSpeed's strategy, which cannot be made without its package."""


def test_deepspeed_is_refused_what_it_would_get_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategies, "DeepSpeedStrategy", ZeroStage)
    second, third = (ZeroStage(zero_stage_3=stage == 3) for stage in (2, 3))
    fine = SimpleNamespace(strategy=second, accumulate_grad_batches=1)
    require_supported(fine)
    assert keeps_gradients(fine)
    with pytest.raises(UserError, match="accumulate_grad_batches is 4"):
        require_supported(SimpleNamespace(strategy=second, accumulate_grad_batches=4))
    with pytest.raises(UserError, match="stage 3"):
        require_supported(SimpleNamespace(strategy=third, accumulate_grad_batches=1))
    other = SimpleNamespace(strategy=object(), accumulate_grad_batches=4)
    require_supported(other)
    assert not keeps_gradients(other)


def test_dividing_before_the_backward_pass_takes_the_same_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    data = make_data(tmp_path)
    teacher = write_teacher(tmp_path, data)
    found = []
    for early in (False, True):
        monkeypatch.setattr(language_model, "keeps_gradients", lambda trainer, early=early: early)
        student = make_student(teacher, DatasetResponses())
        # Clipping tells a gradient of sums from one of means, where AdamW would not.
        options = {"gradient_clip_val": 0.05, "limit_val_batches": 0}
        make_trainer(tmp_path, max_steps=3, **options).fit(student, data)
        found.append(student.state_dict())
    for name, weight in found[0].items():
        torch.testing.assert_close(found[1][name], weight, atol=1e-6, rtol=0, msg=name)


def test_teachers_cannot_be_taken_apart_alone() -> None:
    with pytest.raises(UserError, match="needs several processes"):
        TeacherWeights(sharded=True).placement(None, torch.device("cpu"))
    with pytest.raises(UserError, match="teachers are whole"):
        TeacherWeights(offload=True).placement(None, torch.device("cpu"))
