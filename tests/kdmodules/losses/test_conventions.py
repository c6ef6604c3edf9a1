"""Other codes' formulas, written out with their own argument names, against ours."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import kl_div

from kdmodules.losses import (
    AlphaBeta,
    JensenShannon,
    KDLoss,
    SkewForwardKL,
    SkewReverseKL,
    SymmetricKL,
    TotalVariation,
)


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    student, teacher = torch.randn(2, 10, 50, generator=generator, dtype=torch.float64) * 2
    return student, teacher


def equal(objective: KDLoss, student: Tensor, teacher: Tensor, expected: Tensor) -> None:
    value = objective.per_token(student.log_softmax(-1), teacher.log_softmax(-1))
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=0)


def divergence(a: Tensor, b: Tensor) -> Tensor:
    return (a * (a.log() - b.log())).sum(-1)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9, 0, 1])
def test_trl_generalized_jsd_has_our_beta(logits, beta):
    student, teacher = (t.log_softmax(-1) for t in logits)
    if beta == 0:
        loss = kl_div(student, teacher, reduction="none", log_target=True)
    elif beta == 1:
        loss = kl_div(teacher, student, reduction="none", log_target=True)
    else:
        mixture = torch.stack([student + math.log(1 - beta), teacher + math.log(beta)]).logsumexp(0)
        loss = beta * kl_div(mixture, teacher, reduction="none", log_target=True)
        loss += (1 - beta) * kl_div(mixture, student, reduction="none", log_target=True)
    equal(JensenShannon(beta), *logits, loss.sum(-1))


@pytest.mark.parametrize("lam", [0.1, 0.9])
def test_the_experiments_js_weight_is_the_students(logits, lam):
    student, teacher = (t.softmax(-1) for t in logits)
    mixed = (1 - lam) * teacher + lam * student
    released = lam * divergence(student, mixed) + (1 - lam) * divergence(teacher, mixed)
    equal(JensenShannon(1 - lam), *logits, released)


def test_gkd_of_the_paper_is_beta_one_tenth(logits):
    """Equation 1 of Agarwal et al. with P the teacher and beta 0.1; the released weight is 0.9."""
    q, p = (t.softmax(-1) for t in logits)
    m = 0.1 * p + 0.9 * q
    equal(JensenShannon(0.1), *logits, 0.1 * divergence(p, m) + 0.9 * divergence(q, m))


@pytest.mark.parametrize("lam", [0.1, 0.4])
def test_distillm_skews_have_our_alpha(logits, lam):
    student, teacher = (t.softmax(-1) for t in logits)
    forward = divergence(teacher, lam * teacher + (1 - lam) * student)
    reverse = divergence(student, (1 - lam) * teacher + lam * student)
    equal(SkewForwardKL(lam), *logits, forward)
    equal(SkewReverseKL(lam), *logits, reverse)


def test_distillm_symmetric_and_total_variation(logits):
    student, teacher = (t.softmax(-1) for t in logits)
    symmetric = 0.1 * divergence(teacher, student) + 0.9 * divergence(student, teacher)
    equal(SymmetricKL(0.9), *logits, symmetric)
    equal(TotalVariation(), *logits, 0.5 * (teacher - student).abs().sum(-1))


def test_near_equality_jsd_one_tenth_is_nine_hundredths_of_a_kl():
    student = torch.randn(5, 30, dtype=torch.float64)
    teacher = student + 1e-3 * torch.randn(5, 30, dtype=torch.float64)
    rows = student.log_softmax(-1), teacher.log_softmax(-1)
    ratio = JensenShannon(0.1).per_token(*rows) / SymmetricKL(0.5).per_token(*rows)
    torch.testing.assert_close(ratio, torch.full_like(ratio, 0.09), rtol=1e-2, atol=0)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_abkd_divides_its_ends_once(logits, power):
    """Their beta = 0 and alpha = 0 branches, by exponents of the probabilities."""
    student, teacher = (t.softmax(-1) ** power for t in logits)
    forward = (teacher * (teacher / student).log() - teacher + student).sum(-1) / power
    reverse = (student * (student / teacher).log() - student + teacher).sum(-1) / power
    equal(AlphaBeta(power, 0), *logits, forward / power)
    equal(AlphaBeta(0, power), *logits, reverse / power)
