"""Intervals of a difference and of a ratio, recovered from the intervals of their two terms.

The distances of a term's bounds from its value stand for its error, below and above. What comes out
keeps the terms' own skewness and keeps a width wherever one of them has one (method of variance
estimates recovery: Zou 2007, Psychological Methods 12; Newcombe 1998, Statistics in Medicine 17,
method 10, is the same for proportions).
"""

from typing import NamedTuple


class Term(NamedTuple):
    """A figure between its bounds."""

    value: float
    lower: float
    upper: float


def difference_bounds(first: Term, second: Term, correlation: float = 0.0) -> tuple[float, float]:
    """Interval of first - second (Zou 2007, equations 14 and 15).

    Args:
        first: The minuend.
        second: The subtrahend.
        correlation: Of the two estimates; 0 where they rest on different records.

    Returns:
        Lower and upper bound.

    >>> difference_bounds(Term(0.75, 0.5, 1.0), Term(0.5, 0.5, 0.5))
    (0.0, 0.5)
    """
    value = first.value - second.value
    below = _reach(first.value - first.lower, second.upper - second.value, correlation)
    above = _reach(first.upper - first.value, second.value - second.lower, correlation)
    return value - below, value + above


def _reach(first: float, second: float, correlation: float) -> float:
    squared = first * first + second * second - 2.0 * correlation * first * second
    return float(max(0.0, squared) ** 0.5)


def ratio_bounds(first: Term, second: Term, correlation: float = 0.0) -> tuple[float, float] | None:
    """Interval of first / second: the ratios r for which that of first - r second holds 0.

    Donner and Zou 2012 (Statistical Methods in Medical Research 21), also where the first term may
    be negative. It is Fieller's (1954) with unequal distances below and above.

    Args:
        first: The numerator.
        second: The denominator.
        correlation: Of the two estimates.

    Returns:
        Lower and upper bound; None where the denominator is not told from 0 or below it, since
        the ratio then has no bound.
    """
    if second.lower <= 0.0:
        return None
    mirrored = Term(-first.value, -first.upper, -first.lower)
    lower = _lower_ratio(first, second, correlation)
    return lower, -_lower_ratio(mirrored, second, -correlation)


def _lower_ratio(first: Term, second: Term, correlation: float) -> float:
    """The r at which the lower bound of first - r second is 0, for a denominator above 0.

    (a - r b)^2 = d^2 + r^2 e^2 - 2 rho r d e with a >= r b, where d is how far `first` may lie
    below a, and e how far `second` may lie above b, or below b where r is negative.
    """
    below = first.value - first.lower
    positive = first.lower > 0.0
    reach = second.upper - second.value if positive else second.value - second.lower
    square = second.value**2 - reach**2
    half = first.value * second.value - correlation * below * reach
    constant = first.value**2 - below**2
    root = max(0.0, half * half - square * constant) ** 0.5
    return constant / (half + root) if positive else (half - root) / square
