"""Means over sequences by a plain loop in float64, value and gradients."""

import pytest
import torch

from common.errors import UserError
from kdmodules.losses import (
    ForwardKL,
    JensenShannon,
    KDLoss,
    KDStep,
    Reduction,
    SkewReverseKL,
    TeacherTopK,
)


def step_of(records: list[int], dtype: torch.dtype = torch.float64, **options: object) -> KDStep:
    draw = torch.Generator().manual_seed(0)
    n, size = len(records), 23
    rows = [torch.randn(n, 6, generator=draw, dtype=torch.float64) for _ in range(2)]
    heads = [torch.randn(size, 6, generator=draw, dtype=torch.float64) for _ in range(2)]
    return KDStep(
        student_hidden=rows[0].to(dtype).requires_grad_(),
        student_weight=heads[0].to(dtype).requires_grad_(),
        targets=torch.randint(size, (n,), generator=draw),
        teachers=((rows[1].to(dtype), heads[1].to(dtype)),),
        record_index=torch.tensor(records),
        reduction=Reduction(normalisation="sequence", **options),
    )


def naive(objective: KDLoss, step: KDStep) -> tuple[torch.Tensor, ...]:
    """Sum over records of the mean over the record's tokens, and its gradients."""
    hidden, weight = (
        t.detach().double().requires_grad_() for t in (step.student_hidden, step.student_weight)
    )
    (teacher_hidden, teacher_weight) = step.teachers[0]
    temperature, total = step.reduction.temperature, 0.0
    for record in sorted(set(step.record_index.tolist())):
        own = [i for i, r in enumerate(step.record_index.tolist()) if r == record]
        mean = torch.zeros((), dtype=torch.float64)
        for i in own:
            logits = hidden[i] @ weight.T
            taught = (teacher_hidden[i] @ teacher_weight.T).double()
            rows = [(one / temperature).log_softmax(-1)[None] for one in (logits, taught)]
            mean = mean + step.reduction.kd_weight * objective.per_token(*rows)[0] / len(own)
            nats = -logits.log_softmax(-1)[step.targets[i]]
            mean = mean + step.reduction.ce_weight * nats / len(own)
        total = total + mean
    total.backward()
    return total.detach(), hidden.grad, weight.grad


@pytest.mark.parametrize("chunk_tokens", [None, 3])
@pytest.mark.parametrize("options", [{}, {"kd_ratio": 0.3, "temperature": 2.0, "rescale": True}])
@pytest.mark.parametrize(
    "objective", [ForwardKL(), JensenShannon(0.1), TeacherTopK(SkewReverseKL(0.1), 4)]
)
def test_it_is_the_papers_mean(objective: KDLoss, options: dict, chunk_tokens: int | None) -> None:
    # Record 1 has no scored token at all; the others have 1, 5 and 3.
    step = step_of([0, 2, 2, 2, 2, 2, 3, 3, 3], chunk_tokens=chunk_tokens, **options)
    sums = objective(step)
    sums.total.backward()
    expected, by_hidden, by_weight = naive(objective, step)
    torch.testing.assert_close(sums.total.detach(), expected)
    torch.testing.assert_close(step.student_hidden.grad, by_hidden)
    torch.testing.assert_close(step.student_weight.grad, by_weight)
    assert sums.n_tokens == 9


def test_one_token_for_each_record_is_the_mean_over_tokens() -> None:
    step = step_of(list(range(9)))
    by_token = KDStep(**{**vars(step), "reduction": Reduction()})
    assert ForwardKL()(step).total.item() == ForwardKL()(by_token).total.item()


def test_what_it_needs_is_asked_for() -> None:
    with pytest.raises(UserError, match="choose token or sequence"):
        Reduction(normalisation="batch")
    step = step_of([0, 0, 1])
    with pytest.raises(ValueError, match="needs record_index"):
        KDStep(**{**vars(step), "record_index": None})
