"""Ragged sums and means against Python's statistics on plain lists."""

import math
from fractions import Fraction

import pytest
import torch

from audits.scoring.segments import (
    first_occurrences,
    lowest_share_mean,
    segment_mean,
    segment_sum,
)

LENGTHS = [3, 1, 100, 512, 5, 10, 0]
OFFSETS = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0).tolist()])
VALUES = torch.randn(int(OFFSETS[-1]), generator=torch.Generator().manual_seed(0))


def lists() -> list[list[float]]:
    return [part.tolist() for part in VALUES.double().split(LENGTHS)]


def test_sum_is_zero_without_tokens() -> None:
    expected = torch.tensor([math.fsum(part) for part in lists()], dtype=torch.float64)
    torch.testing.assert_close(segment_sum(VALUES, OFFSETS), expected, rtol=0, atol=1e-12)


def test_mean() -> None:
    expected = [math.fsum(part) / len(part) for part in lists()[:-1]]
    found = segment_mean(VALUES, OFFSETS[:-1])
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("share", [0.01, 0.07, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0])
def test_lowest_share(share: float) -> None:
    expected = []
    for part in lists()[:-1]:
        count = math.ceil(Fraction(str(share)) * len(part))
        expected.append(math.fsum(sorted(part)[:count]) / count)
    found = lowest_share_mean(VALUES, OFFSETS[:-1], share)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_share_is_the_decimal_one() -> None:
    values = torch.arange(100.0)
    assert lowest_share_mean(values, torch.tensor([0, 100]), 0.07).item() == 3.0


def test_ties_and_minus_infinity() -> None:
    values = torch.tensor([-1.0, -1.0, -1.0, -2.0, -math.inf])
    found = lowest_share_mean(values, torch.tensor([0, 3, 5]), 0.5)
    assert found.tolist() == [-1.0, -math.inf]


def test_first_occurrences_equal_the_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([0, 40, 1, 0, 200, 7])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    values = torch.randint(12, (int(lengths.sum()),), generator=generator)
    expected = []
    for start, stop in zip(offsets.tolist(), offsets.tolist()[1:], strict=False):
        own = values[start:stop].tolist()
        expected += [value not in own[:place] for place, value in enumerate(own)]
    assert first_occurrences(values, offsets).tolist() == expected
    assert first_occurrences(values[:0], torch.tensor([0])).tolist() == []
