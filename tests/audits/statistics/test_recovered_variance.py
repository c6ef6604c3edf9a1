"""Recovered intervals against Newcombe's and Fieller's, a search, and what is undefined."""

import numpy as np
import pytest
from scipy import stats

from audits.statistics.recovered_variance import Term, difference_bounds, ratio_bounds


def test_a_difference_of_rates_is_newcombes_tenth_method() -> None:
    """His first example: 56/70 against 48/80 gives 0.0524 to 0.3339."""
    terms = []
    for hits, n in ((56, 70), (48, 80)):
        interval = stats.binomtest(hits, n).proportion_ci(method="wilson")
        terms.append(Term(hits / n, interval.low, interval.high))
    assert difference_bounds(*terms) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize("correlation", [-0.6, 0.0, 0.8])
def test_even_distances_give_fiellers_ratio(correlation: float) -> None:
    a, d, b, e = 0.2, 0.06, 0.45, 0.05
    found = ratio_bounds(Term(a, a - d, a + d), Term(b, b - e, b + e), correlation)
    # (a - r b)^2 = d^2 + r^2 e^2 - 2 rho r d e
    roots = np.roots([b * b - e * e, -2 * (a * b - correlation * d * e), a * a - d * d])
    assert found == pytest.approx(tuple(sorted(roots)))


@pytest.mark.parametrize(
    "first",
    [
        Term(0.3, 0.2, 0.35),
        Term(0.49, 0.4, 0.5),
        Term(0.02, -0.08, 0.05),
        Term(-0.1, -0.2, 0.02),
        Term(-0.2, -0.3, -0.15),
        Term(0.0, 0.0, 0.1),
    ],
)
@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_a_ratio_is_where_the_difference_reaches_zero(first: Term, correlation: float) -> None:
    second = Term(0.4, 0.25, 0.45)
    found = ratio_bounds(first, second, correlation)
    assert found is not None
    assert found[0] <= first.value / second.value <= found[1]
    for bound, end in zip(found, (0, 1), strict=True):
        scaled = sorted(bound * one for one in second[1:])
        difference = difference_bounds(
            first,
            Term(bound * second.value, *scaled),
            correlation if bound >= 0.0 else -correlation,
        )
        assert difference[end] == pytest.approx(0.0, abs=1e-12)


def test_a_denominator_that_may_be_zero_bounds_nothing() -> None:
    assert ratio_bounds(Term(0.1, 0.0, 0.2), Term(0.1, 0.0, 0.3)) is None
    assert ratio_bounds(Term(0.1, 0.0, 0.2), Term(-0.1, -0.3, -0.01)) is None
