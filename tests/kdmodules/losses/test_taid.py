"""TAID's schedule by the paper's formulas."""

import math

import pytest
import torch

from kdmodules.losses import TAID, ForwardKL, TeacherTopK


def test_the_schedule_is_at_least_linear_and_never_falls():
    loss = TAID(start=0.4, end=1.0)
    seen = []
    for progress in (0.0, 0.5, 0.25, 1.0):
        loss.begin_step(progress)
        seen.append(loss.interpolation.item())
    assert seen == pytest.approx([0.4, 0.7, 0.7, 1.0])


def test_the_adaptive_step_follows_the_formula():
    loss = TAID(start=0.2, rate=0.1, momentum=0.9)
    loss.end_step(2.0)
    assert loss.interpolation.item() == 0.2
    t, trend = 0.2, 0.0
    for before, after in ((2.0, 1.5), (1.5, 1.8), (1.8, 0.9)):
        trend = 0.9 * trend + 0.1 * (before - after) / before
        t += 0.1 * (1 - t) / (1 + math.exp(-trend))
        loss.end_step(after)
        assert loss.interpolation.item() == pytest.approx(t, rel=1e-12)


def test_the_schedule_survives_a_checkpoint_and_the_top_k_decorator():
    wrapped = TeacherTopK(TAID(), 3)
    wrapped.begin_step(0.5)
    wrapped.end_step(1.0)
    wrapped.end_step(0.5)
    again = TeacherTopK(TAID(), 3)
    again.load_state_dict(wrapped.state_dict())
    again.end_step(0.4)
    wrapped.end_step(0.4)
    assert again.objective.interpolation.item() == wrapped.objective.interpolation.item() > 0.7


def test_at_its_end_it_is_the_forward_kl():
    rows = [torch.randn(3, 5).log_softmax(-1) for _ in range(2)]
    loss = TAID()
    loss.begin_step(1.0)
    assert torch.equal(loss.per_token(*rows), ForwardKL().per_token(*rows))
