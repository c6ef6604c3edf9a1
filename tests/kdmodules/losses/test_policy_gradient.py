"""MiniLLM's objective: exact against KL(q||p) where it should be, by formula elsewhere."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from common.errors import UserError
from kdmodules.losses import (
    KDStep,
    PolicyGradient,
    Reduction,
    returns_to_go,
    rewards,
)

PREFIX_BITS = 4


def prefixes(horizon: int) -> dict[tuple[int, ...], int]:
    """Row of each binary prefix shorter than `horizon`."""
    every = [p for n in range(horizon) for p in itertools.product((0, 1), repeat=n)]
    return {prefix: row for row, prefix in enumerate(every)}


def tables(horizon: int, n_teachers: int = 1) -> tuple[Tensor, list[Tensor]]:
    """Student's and teachers' logits per prefix, [prefixes, 2] each."""
    generator = torch.Generator().manual_seed(horizon)
    shape = (len(prefixes(horizon)), 2)
    student, *teachers = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(1 + n_teachers)
    )
    return student, teachers


def mean_logp(teachers: list[Tensor]) -> Tensor:
    """Log of the mean of the teachers' next-token probabilities, [prefixes, 2]."""
    return (sum(teacher.softmax(-1) for teacher in teachers) / len(teachers)).log()


def sequence_kl_gradient(student: Tensor, teachers: list[Tensor], horizon: int) -> Tensor:
    """Gradient of sum_y q(y) log(q(y) / p(y)) over all sequences, by enumeration."""
    leaf = student.clone().requires_grad_()
    q, p, rows = leaf.log_softmax(-1), mean_logp(teachers), prefixes(horizon)
    total = torch.zeros((), dtype=torch.float64)
    for y in itertools.product((0, 1), repeat=horizon):
        log_q = torch.stack([q[rows[y[:t]], y[t]] for t in range(horizon)]).sum()
        log_p = torch.stack([p[rows[y[:t]], y[t]] for t in range(horizon)]).sum()
        total = total + log_q.exp() * (log_q - log_p)
    (grad,) = torch.autograd.grad(total, leaf)
    return grad


def expected_gradient(
    student: Tensor,
    teachers: list[Tensor],
    horizon: int,
    share: float = 0.0,
    released: bool = False,
) -> Tensor:
    """Mean of the objective's gradient by student logits over every rollout, by enumeration."""
    rows, total = prefixes(horizon), torch.zeros_like(student)
    q, p = student.log_softmax(-1), mean_logp(teachers)
    drawn_from = ((1 - share) * q.exp() + share * p.exp()).log()
    for y in itertools.product((0, 1), repeat=horizon):
        at = torch.tensor([rows[y[:t]] for t in range(horizon)])
        token = torch.tensor(y)
        old, target = q[at, token], p[at, token]
        mask = torch.ones(1, horizon, dtype=torch.bool)
        reward = rewards(old[None], target[None], mask, reward_scaling=1.0)
        advantage = returns_to_go(reward, mask, length_normalised=False, as_released=released)[0]
        logits = student.clone().requires_grad_()
        step = KDStep(
            student_hidden=logits[at],
            student_weight=torch.eye(2, dtype=torch.float64),
            targets=token,
            teachers=[(teacher[at], torch.eye(2, dtype=torch.float64)) for teacher in teachers],
            extras={
                "advantages": advantage,
                "old_logp": old,
                "mixture_weight": old.exp() / ((1 - share) * old.exp() + share * target.exp()),
            },
        )
        sums = PolicyGradient(clip=float("inf"), as_released=released)(step)
        (grad,) = torch.autograd.grad(sums.total, logits)
        total += drawn_from[at, token].sum().exp() * grad
    return total


@pytest.mark.parametrize("n_teachers", [1, 2, 3])
@pytest.mark.parametrize("horizon", [1, 2, 3, PREFIX_BITS])
def test_the_expected_gradient_is_that_of_the_sequence_kl(horizon, n_teachers):
    student, teachers = tables(horizon, n_teachers)
    exact = sequence_kl_gradient(student, teachers, horizon)
    torch.testing.assert_close(expected_gradient(student, teachers, horizon), exact)


def test_an_ensemble_is_a_mean_of_probabilities_and_not_of_logits():
    student, teachers = tables(3, n_teachers=2)
    sharp = [4 * teacher for teacher in teachers]
    found = expected_gradient(student, sharp, 3)
    torch.testing.assert_close(found, expected_gradient(student, [mean_logp(sharp)], 3))
    geometric = sequence_kl_gradient(student, [sum(sharp) / 2], 3)
    assert (found - geometric).norm() > 0.1 * found.norm()


def test_as_released_counts_the_own_reward_twice():
    student, teachers = tables(1)
    exact = sequence_kl_gradient(student, teachers, 1)
    torch.testing.assert_close(expected_gradient(student, teachers, 1, released=True), 2 * exact)


def test_the_mixture_is_exact_for_one_token_and_biased_after_it():
    student, teachers = tables(1)
    exact = sequence_kl_gradient(student, teachers, 1)
    kl_weighted = expected_gradient(student, teachers, 1, share=0.2)
    torch.testing.assert_close(kl_weighted, exact)
    student, teachers = tables(PREFIX_BITS)
    exact = sequence_kl_gradient(student, teachers, PREFIX_BITS).flatten()
    mixed = expected_gradient(student, teachers, PREFIX_BITS, share=0.2).flatten()
    cosine = torch.cosine_similarity(exact, mixed, dim=0).item()
    assert 0.9 < cosine < 0.99999


def rollout_step(n: int = 40, seed: int = 0) -> KDStep:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    hidden, weight, targets = (
        normal(n, 5),
        normal(9, 5),
        torch.randint(0, 9, (n,), generator=generator),
    )
    logp = (hidden @ weight.T).log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
    return KDStep(
        student_hidden=hidden.requires_grad_(),
        student_weight=weight.requires_grad_(),
        targets=targets,
        teachers=[(normal(n, 4), normal(9, 4))],
        extras={
            "advantages": normal(n),
            "old_logp": logp + 0.3 * normal(n),
            "mixture_weight": normal(n).exp(),
        },
        reduction=Reduction(chunk_tokens=16),
    )


@pytest.mark.parametrize("as_released", [False, True])
@pytest.mark.parametrize("clip", [0.2, 0.01])
def test_values_and_gradients_equal_the_formulas(as_released, clip):
    step = rollout_step()
    logp = (step.student_hidden @ step.student_weight.T).log_softmax(-1)
    teacher = (step.teachers[0][0] @ step.teachers[0][1].T).log_softmax(-1)
    drawn = logp.gather(1, step.targets[:, None]).squeeze(1)
    a, w = step.extras["advantages"], step.extras["mixture_weight"]
    rho = w * (drawn - step.extras["old_logp"]).exp()
    surrogate = torch.maximum(-a * rho, -a * rho.clamp(1 - clip, 1 + clip)).sum()
    kl = (logp.exp() * (logp - teacher)).sum(-1)
    single = (kl if as_released else w * kl).sum()
    inputs = (step.student_hidden, step.student_weight)
    expected = torch.autograd.grad(surrogate + single, inputs)
    objective = PolicyGradient(clip, as_released)
    sums = objective(step)
    torch.testing.assert_close(sums.terms["policy_gradient"], surrogate.detach())
    torch.testing.assert_close(sums.terms["single_step"], single.detach())
    torch.testing.assert_close(sums.kd_sum, (surrogate + single).detach())
    for mine, naive in zip(torch.autograd.grad(sums.total, inputs), expected, strict=True):
        torch.testing.assert_close(mine, naive)
    with torch.no_grad():
        torch.testing.assert_close(objective(step).total, sums.total.detach())


def test_a_clipped_token_has_no_policy_gradient():
    step = rollout_step()
    far = {
        **step.extras,
        "advantages": torch.ones(40, dtype=torch.float64),
        "old_logp": torch.full((40,), -50.0, dtype=torch.float64),
    }
    held = PolicyGradient()(replace(step, extras=far))
    inputs = (step.student_hidden, step.student_weight)
    still = {**far, "advantages": torch.zeros(40, dtype=torch.float64)}
    alone = PolicyGradient()(replace(step, extras=still))
    for a, b in zip(
        torch.autograd.grad(held.total, inputs),
        torch.autograd.grad(alone.total, inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
    assert held.terms["policy_gradient"].item() == pytest.approx(-1.2 * 40)


def test_what_is_missing_or_tempered_is_named():
    step = rollout_step()
    with pytest.raises(UserError, match="advantages, old_logp"):
        PolicyGradient()(replace(step, extras={"mixture_weight": step.extras["mixture_weight"]}))
    with pytest.raises(UserError, match="temperature"):
        PolicyGradient()(replace(step, reduction=Reduction(temperature=2.0)))
    with pytest.raises(UserError, match="clip"):
        PolicyGradient(clip=0)


def test_no_tokens_give_zero():
    step = rollout_step(n=0)
    sums = PolicyGradient()(step)
    sums.total.backward()
    assert sums.total.item() == 0
    assert not step.student_weight.grad.any()
