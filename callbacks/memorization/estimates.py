"""Figures of one population with their intervals, and the gap between two populations."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from callbacks.memorization.metrics import Summary
from callbacks.statistics.estimates import tail_probability
from callbacks.statistics.proportions import effective_size, wilson
from callbacks.utility.estimates import UtilityEstimate, share_interval


def estimate(
    summary: Summary,
    rows: NDArray[np.int64],
    clusters: Sequence[Hashable],
    level: float = 0.95,
) -> UtilityEstimate | None:
    """Returns the mean of a summary over some records; None over no record.

    A share per record has a Student t interval over clusters; a rate has Wilson's, with the number
    of independent records that the clusters are worth, since rates of a few in a hundred are far
    from normal.

    Args:
        summary: The values of B records.
        rows: Which of the B records count.
        clusters: Each record's cluster, [B].
        level: Coverage.
    """
    values = summary.values[rows]
    if not values.size:
        return None
    own = [clusters[row] for row in rows]
    if not summary.is_rate:
        return share_interval(values, own, level)
    names = {name: index for index, name in enumerate(dict.fromkeys(own))}
    if len(names) < 2:
        return UtilityEstimate(float(values.mean()), None, None, values.size)
    ids = np.array([names[name] for name in own], dtype=np.int64)
    share = float(values.mean())
    worth = effective_size(values > 0.5, ids)
    return UtilityEstimate(share, *wilson(share, worth, tail_probability(level)), values.size)


def gap(members: UtilityEstimate, nonmembers: UtilityEstimate) -> UtilityEstimate:
    """Returns members minus non-members, with an interval recovered from theirs.

    The distances of each side's bounds from its value stand for its errors and are added in
    squares (Newcombe 1998, "Interval estimation for the difference between independent
    proportions", method 10; Zou and Donner 2008 for any two estimates). Unlike a t interval it
    keeps a width where no record of either side is memorized.

    Returns:
        The signed gap; no bounds where a side has none; the records of both sides.
    """
    value, n = members.value - nonmembers.value, members.n + nonmembers.n
    bounds = (members.lower, members.upper, nonmembers.lower, nonmembers.upper)
    if any(bound is None for bound in bounds):
        return UtilityEstimate(value, None, None, n)
    inside, outside = _reaches(members), _reaches(nonmembers)
    lower = value - float(np.hypot(inside[0], outside[1]))
    upper = value + float(np.hypot(inside[1], outside[0]))
    return UtilityEstimate(value, lower, upper, n)


def _reaches(one: UtilityEstimate) -> tuple[float, float]:
    """Returns how far the bounds lie below and above the value."""
    lower = one.value if one.lower is None else one.lower
    upper = one.value if one.upper is None else one.upper
    return one.value - lower, upper - one.value
