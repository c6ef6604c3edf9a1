"""The likeliest tokens in a teacher's place: every bound of docs/teacher_cache.md, row by row."""

from math import log

import numpy as np
import pytest
import torch
from torch import Tensor

from kdmodules.losses import (
    ForwardKL,
    JensenShannon,
    KDLoss,
    KDStep,
    SkewForwardKL,
    SkewReverseKL,
    TeacherTopK,
    TopKRows,
    TotalVariation,
)

N, V, K, WIDTH = 60, 37, 6, 8


class Case:
    """Random rows of a teacher p, its stand-in p~ and a student q, in float64 and by hand.

    Attributes:
        rest: [N] mass r of p outside the k tokens.
        student_rest: [N] mass Q of q there.
    """

    def __init__(self, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.logits = torch.randn(N, V, generator=draw) * torch.linspace(0.5, 6, N).unsqueeze(1)
        self.hidden = torch.randn(N, WIDTH, generator=draw, dtype=torch.float64)
        self.weight = torch.randn(V, WIDTH, generator=draw, dtype=torch.float64)
        self.targets = torch.randint(0, V, (N,), generator=draw)
        p, q = self.logits.double().softmax(-1), (self.hidden @ self.weight.T).softmax(-1)
        self.p, self.q = p.numpy(), q.numpy()
        self.others = np.ones((N, V), dtype=bool)
        for row, kept in enumerate(np.argsort(-self.p, axis=1)[:, :K]):
            self.others[row, kept] = False
        self.rest = np.where(self.others, self.p, 0).sum(1)
        self.student_rest = np.where(self.others, self.q, 0).sum(1)
        even = self.rest[:, None] / (V - K)
        self.stand_in = np.where(self.others, even, self.p)

    def values(self, objective: KDLoss) -> tuple[np.ndarray, np.ndarray]:
        """[N] of the objective against p, and against the rows through the reduction."""
        true = objective.per_token(_log(self.q), _log(self.p)).numpy()
        return true, np.array([self.step(row, objective)[0] for row in range(N)])

    def step(self, row: int, objective: KDLoss) -> tuple[float, Tensor]:
        """The value of one token and its gradient by the student's hidden states."""
        hidden = self.hidden[row : row + 1].clone().requires_grad_()
        rows = TopKRows.of(self.logits[row : row + 1], K)
        sums = objective(KDStep(hidden, self.weight, self.targets[row : row + 1], (rows,)))
        sums.total.backward()
        return sums.kd_sum.item(), hidden.grad


def _log(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).log()


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(0)


def test_the_stand_in_is_what_is_said(case: Case) -> None:
    rows = TopKRows.of(case.logits, K)
    found = rows.logits(slice(5, 25), torch.empty(20, V, dtype=torch.float64)).exp().numpy()
    np.testing.assert_allclose(found, case.stand_in[5:25], atol=1e-6)
    np.testing.assert_allclose(rows.tail.exp().numpy(), case.rest, atol=1e-6)
    apart = np.abs(found - case.p[5:25]).sum(1) / 2
    assert (apart <= case.rest[5:25] * (1 - 1 / (V - K)) + 1e-7).all()
    assert apart.max() > 0.01


def test_forward_kl_keeps_its_bounds(case: Case) -> None:
    true, found = case.values(ForwardKL())
    spread = np.array(
        [np.ptp(np.log(q[others])) for q, others in zip(case.q, case.others, strict=True)]
    )
    low, high = -case.rest * spread, case.rest * (log(V - K) + spread)
    assert (true - found >= low - 1e-6).all()
    assert (true - found <= high + 1e-6).all()
    assert np.abs(true - found).max() > 0.05
    # One cell for the rest is below both: the log-sum inequality.
    kept = np.where(case.others, 0, case.p * np.log(case.p / case.q)).sum(1)
    coarse = kept + case.rest * np.log(case.rest / case.student_rest)
    assert (coarse <= np.minimum(true, found) + 1e-6).all()


def test_the_gradient_of_forward_kl_is_off_by_twice_the_rest_at_most(case: Case) -> None:
    for row in range(N):
        _, grad = case.step(row, ForwardKL())
        expected = (torch.from_numpy(case.q - case.stand_in)[row] @ case.weight).unsqueeze(0)
        torch.testing.assert_close(grad, expected, atol=1e-6, rtol=0)
    assert (np.abs(case.stand_in - case.p).sum(1) <= 2 * case.rest).all()


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_jsd_keeps_its_bound(case: Case, beta: float) -> None:
    true, found = case.values(JensenShannon(beta))
    bound = beta * case.rest * log(1 / beta) + (1 - beta) * case.student_rest * log(1 / (1 - beta))
    assert (np.abs(true - found) <= bound + 1e-6).all()
    assert np.abs(true - found).max() > 1e-3


@pytest.mark.parametrize("alpha", [0.1, 0.5])
def test_skewed_kls_keep_their_bounds(case: Case, alpha: float) -> None:
    r, q = case.rest, case.student_rest
    true, found = case.values(SkewForwardKL(alpha))
    assert (np.abs(true - found) <= r * np.log1p((1 - alpha) * q / (alpha * r)) + 1e-6).all()
    assert np.abs(true - found).max() > 1e-3
    true, found = case.values(SkewReverseKL(alpha))
    assert (np.abs(true - found) <= q * np.log1p((1 - alpha) * r / (alpha * q)) + 1e-6).all()
    assert np.abs(true - found).max() > 1e-3


def test_total_variation_is_off_by_the_rest_at_most(case: Case) -> None:
    true, found = case.values(TotalVariation())
    assert (np.abs(true - found) <= case.rest + 1e-6).all()
    assert np.abs(true - found).max() > 1e-3


def test_a_narrower_truncation_is_exact(case: Case) -> None:
    for k in (1, K):
        true, found = case.values(TeacherTopK(ForwardKL(), k))
        np.testing.assert_allclose(found, true, atol=1e-5)


def test_shapes_that_do_not_fit() -> None:
    rows = TopKRows.of(torch.randn(3, V), K)
    assert len(rows) == 3
    hidden, weight = torch.randn(4, WIDTH), torch.randn(V, WIDTH)
    with pytest.raises(ValueError, match="teacher 0: 3 rows of 37 tokens, not 4 of 37"):
        KDStep(hidden, weight, torch.zeros(4, dtype=torch.int64), (rows,))
    with pytest.raises(ValueError, match="logp, ids and tail"):
        TopKRows(rows.logp, rows.ids[:2], rows.tail, V)
    with pytest.raises(ValueError, match="6 of 6 tokens"):
        TopKRows(rows.logp, rows.ids, rows.tail, K)
