"""Rows that hold -inf: exact where they weigh nothing, named where the loss is infinite."""

import math

import pytest
import torch
from torch import Tensor

from kdmodules.losses import (
    ForwardKL,
    JensenShannon,
    KDStep,
    NonFiniteLossError,
    Reduction,
    ReverseKL,
    reduction,
)


def one_hot_step(student: Tensor, teacher: Tensor, **options: float) -> KDStep:
    """A step whose logits are given: hidden states are rows of logits, heads the identity's."""
    eye = torch.eye(student.shape[1])
    return KDStep(
        student_hidden=student.clone().requires_grad_(),
        student_weight=eye.clone(),
        targets=torch.zeros(len(student), dtype=torch.int64),
        teachers=[(teacher, eye)],
        record_index=torch.tensor([4, 4, 9]),
        reduction=Reduction(**options),
    )


@pytest.fixture
def exact_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes hidden states as logits: a product with an identity turns -inf into NaN."""

    class Identity(reduction.HeadProduct):
        def logits(self, rows: slice, out: Tensor) -> Tensor:
            return out.copy_(self.hidden[rows])

    monkeypatch.setattr(reduction, "HeadProduct", Identity)


@pytest.mark.usefixtures("exact_head")
def test_infinite_kl_names_tokens_and_records():
    student = torch.tensor([[0.0, 1, 2], [0, -torch.inf, 2], [0, 1, -torch.inf]])
    teacher = torch.tensor([[0.0, 1, 2], [1, 1, 1], [0, 3, 0]])
    for grad in (True, False):
        with torch.set_grad_enabled(grad), pytest.raises(FloatingPointError) as raised:
            ForwardKL()(one_hot_step(student, teacher))
        assert isinstance(raised.value, NonFiniteLossError)
        assert raised.value.rows == [1, 2]
        assert raised.value.records == [4, 9]
        assert "infinite" in str(raised.value)


@pytest.mark.usefixtures("exact_head")
@pytest.mark.parametrize("objective", [ForwardKL(), JensenShannon(0.1), ReverseKL()], ids=str)
def test_minus_infinity_that_weighs_nothing_is_exact(objective):
    student = torch.tensor([[0.0, 1, 2], [0, -torch.inf, 2], [0, 1, -torch.inf]])
    teacher = torch.tensor([[3.0, 1, 2], [1, -torch.inf, 1], [0, 3, -torch.inf]])
    step = one_hot_step(student, teacher)
    sums = objective(step)
    (grad,) = torch.autograd.grad(sums.total, step.student_hidden)
    expected = objective.per_token(student.log_softmax(-1), teacher.log_softmax(-1)).sum()
    torch.testing.assert_close(sums.total.detach(), expected)
    finite = [row.clamp(min=-1e4) for row in (student, teacher)]
    naive = finite[0].requires_grad_()
    objective.per_token(naive.log_softmax(-1), finite[1].log_softmax(-1)).sum().backward()
    torch.testing.assert_close(grad, naive.grad)


@pytest.mark.usefixtures("exact_head")
def test_an_impossible_target_matters_only_where_cross_entropy_counts():
    student = torch.tensor([[0.0, 1, 2], [-torch.inf, 0, 2], [0, 1, 0]])
    teacher = torch.tensor([[0.0, 1, 2], [-torch.inf, 1, 1], [0, 3, 0]])
    sums = ForwardKL()(one_hot_step(student, teacher))
    assert math.isfinite(sums.total.item())
    with pytest.raises(NonFiniteLossError, match=r"\[1\]"):
        ForwardKL()(one_hot_step(student, teacher, kd_ratio=0.5))
