"""Sums and means over the records of a ragged table, without a loop over records or tokens.

Tokens of record b are ``values[offsets[b]:offsets[b + 1]]``. Everything is accumulated in float64.
"""

from collections.abc import Iterable
from fractions import Fraction
from functools import reduce

import torch
from torch import Tensor


def segment_ids(offsets: Tensor) -> Tensor:
    """Record of each token.

    Args:
        offsets: [B + 1] int64, ascending from 0.

    Returns:
        [n] int64.

    >>> segment_ids(torch.tensor([0, 2, 2, 3])).tolist()
    [0, 0, 2]
    """
    return torch.repeat_interleave(offsets.diff())


def segment_sum(values: Tensor, offsets: Tensor) -> Tensor:
    """Sum over the tokens of each record; 0 where there are none.

    Args:
        values: [n].
        offsets: [B + 1] int64.

    Returns:
        [B] float64.
    """
    total = torch.zeros(offsets.numel() - 1, dtype=torch.float64)
    return total.index_add_(0, segment_ids(offsets), values.double())


def segment_mean(values: Tensor, offsets: Tensor) -> Tensor:
    """Mean over the tokens of each record.

    Args:
        values: [n].
        offsets: [B + 1] int64; every record has at least one token.

    Returns:
        [B] float64.
    """
    return segment_sum(values, offsets) / offsets.diff()


def mean_in_order(parts: Iterable[Tensor]) -> Tensor:
    """Mean of tensors of one shape, added one after the other.

    Torch's own sum over rows takes them in an order that depends on how many columns there are, so
    that a record's last bits would depend on which records are beside it.

    Args:
        parts: At least one tensor.

    Returns:
        A tensor of their shape.

    >>> mean_in_order([torch.tensor([1.0, 2.0]), torch.tensor([3.0, 6.0])]).tolist()
    [2.0, 4.0]
    """
    first, *others = parts
    return reduce(torch.add, others, first) / (1 + len(others))


def lowest_share_mean(values: Tensor, offsets: Tensor, share: float) -> Tensor:
    """Mean of the ceil(share * n) lowest values of each record, at least one.

    The count is taken from the decimal fraction that ``share`` stands for, so that 0.07 of 100
    tokens are 7 although 0.07 * 100 is above 7 in binary arithmetic.

    Args:
        values: [n], no NaN.
        offsets: [B + 1] int64; every record has at least one token.
        share: in (0, 1].

    Returns:
        [B] float64.

    >>> lowest_share_mean(torch.tensor([3.0, 1.0, 2.0, 9.0]), torch.tensor([0, 3, 4]), 0.5).tolist()
    [1.5, 9.0]
    """
    exact = Fraction(share).limit_denominator(1_000_000)
    counts = (offsets.diff() * exact.numerator + exact.denominator - 1) // exact.denominator
    segment = segment_ids(offsets)
    by_value = values.argsort()
    order = by_value[segment[by_value].argsort(stable=True)]  # by record, then ascending
    place = torch.arange(values.numel()) - offsets[segment]
    kept = order[place < counts[segment]]
    total = torch.zeros(counts.numel(), dtype=torch.float64)
    return total.index_add_(0, segment[kept], values[kept].double()) / counts


def first_occurrences(values: Tensor, offsets: Tensor) -> Tensor:
    """Marks the tokens whose value no earlier token of the same record has.

    Args:
        values: [n] int64, at least 0.
        offsets: [B + 1] int64.

    Returns:
        [n] bool.

    >>> first_occurrences(torch.tensor([7, 3, 7, 7]), torch.tensor([0, 3, 4])).tolist()
    [True, True, False, True]
    """
    by_value = values.argsort(stable=True)
    segment = segment_ids(offsets)
    order = by_value[segment[by_value].argsort(stable=True)]  # by record, then value, then place
    pairs = torch.stack([segment[order], values[order]])
    first = torch.ones(values.numel(), dtype=torch.bool)
    first[order[1:]] = (pairs[:, 1:] != pairs[:, :-1]).any(dim=0)
    return first
