"""Rewards, returns and advantages against loops and hand-worked rows."""

import pytest
import torch

from kdmodules.losses import moment_sums, returns_to_go, rewards, whiten

MASK = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]], dtype=torch.bool)
REWARD = torch.tensor([[1.0, -2, 4, 3], [9, 5, -1, 9], [7, 7, 7, 7]])


def test_rewards_are_scaled_then_clipped_and_masked():
    student = torch.tensor([[-1.0, -300, -2, -1]])
    teacher = torch.tensor([[-1.5, -1, -400, -0.5]])
    mask = torch.tensor([[True, True, True, False]])
    assert rewards(student, teacher, mask, 0.5).tolist() == [[-1.0, 100.0, -100.0, 0.0]]


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("as_released", [True, False])
def test_returns_equal_a_loop(normalised, as_released):
    got = returns_to_go(REWARD, MASK, normalised, as_released)
    for row in range(3):
        valid = [t for t in range(4) if MASK[row, t]]
        for t in range(4):
            if t not in valid:
                assert got[row, t] == 0
                continue
            later = [k for k in valid if k > t or (as_released and k == t)]
            gamma = 0.95 if as_released else 1.0
            total = sum(REWARD[row, k].item() * gamma ** (k - t) for k in later)
            length = len(later) if normalised and later else 1
            assert got[row, t].item() == pytest.approx(total / length, rel=1e-6)


def test_returns_of_one_row_by_hand():
    row = returns_to_go(REWARD[:1], MASK[:1])[0].tolist()
    assert row == pytest.approx([5 / 3, 3.5, 3.0, 0.0])


def test_whitening_is_masked_and_splits_over_ranks():
    values = torch.randn(6, 5, dtype=torch.float64) * 3 + 7
    mask = torch.rand(6, 5) > 0.3
    mask[0, 0] = True
    white = whiten(values, mask)
    kept = values[mask]
    expected = (kept - kept.mean()) / (kept.var(correction=0) + 1e-8).sqrt()
    torch.testing.assert_close(white[mask], expected)
    assert not white[~mask].any()
    values[~mask] = 1e9
    torch.testing.assert_close(whiten(values, mask), white)
    sums = moment_sums(values[:2], mask[:2]) + moment_sums(values[2:], mask[2:])
    parts = [whiten(values[rows], mask[rows], sums) for rows in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(torch.cat(parts), white)


def test_whitening_nothing_or_one_value_is_zero():
    values = torch.full((2, 3), 5.0)
    one = torch.zeros(2, 3, dtype=torch.bool)
    assert not whiten(values, one).any()
    one[1, 1] = True
    assert not whiten(values, one).any()
