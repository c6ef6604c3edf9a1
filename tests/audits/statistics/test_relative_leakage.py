"""The share of what could leak: a plain loop, coverage by simulation, and what is undefined."""

import numpy as np
import pytest
from scipy.stats import norm

from audits.statistics.relative_leakage import relative_leakage


def won(members: np.ndarray, nonmembers: np.ndarray) -> float:
    return float(np.mean([[(x > y) + 0.5 * (x == y) for y in nonmembers] for x in members]))


def test_equals_a_loop_over_pairs() -> None:
    draw = np.random.default_rng(0)
    student, anchor = draw.normal(0.5, 1, 30), draw.normal(2, 1, 30)
    others = draw.normal(size=(2, 25))
    found = relative_leakage((student, anchor), (others[0], others[1]))
    expected = (won(student, others[0]) - 0.5) / (won(anchor, others[1]) - 0.5)
    assert found.value == pytest.approx(expected)
    assert found.n == 55
    assert found.lower is not None
    assert found.upper is not None
    assert found.lower < expected < found.upper


def test_a_student_that_is_its_anchor_has_1() -> None:
    draw = np.random.default_rng(1)
    members, nonmembers = draw.normal(1, 1, 40), draw.normal(size=40)
    found = relative_leakage((members, members), (nonmembers, nonmembers))
    assert found.value == 1.0
    assert found.lower < 1.0 < found.upper
    # The same records under both: far narrower than if the two had been scored on others.
    others = relative_leakage(
        (members, draw.permutation(members)), (nonmembers, draw.permutation(nonmembers))
    )
    assert found.upper - found.lower < 0.6 * (others.upper - others.lower)


@pytest.mark.parametrize(
    ("area", "anchor", "n"),
    [(0.5, 0.86, 150), (0.6, 0.7, 150), (0.8, 0.95, 50), (0.99, 0.999, 50), (0.999, 0.9999, 50)],
)
def test_intervals_cover(area: float, anchor: float, n: int) -> None:
    """Fieller's interval on DeLong's variances covers 0.84 in the fourth case."""
    draw = np.random.default_rng(2)
    shift, anchor_shift = (norm.ppf(one) * 2**0.5 for one in (area, anchor))
    covered = 0
    for _ in range(400):
        # Scores of a record under both models go together, as those of one text do.
        ease = draw.normal(size=(2, n)) * 0.6**0.5
        sides = ease[:, None, :] + draw.normal(size=(2, 2, n)) * 0.4**0.5
        sides[0, 0] += shift
        sides[0, 1] += anchor_shift
        found = relative_leakage((sides[0, 0], sides[0, 1]), (sides[1, 0], sides[1, 1]))
        assert found.lower is not None
        assert found.upper is not None
        assert found.upper > found.lower
        covered += found.lower <= (area - 0.5) / (anchor - 0.5) <= found.upper
    assert covered / 400 >= 0.93


def test_an_anchor_that_leaks_nothing_gives_no_interval() -> None:
    draw = np.random.default_rng(3)
    members, nonmembers = draw.normal(size=(2, 20)), draw.normal(size=(2, 20))
    found = relative_leakage((members[0], members[1]), (nonmembers[0], nonmembers[1]))
    assert (found.lower, found.upper) == (None, None)
    ties = np.zeros(5)
    with pytest.raises(ValueError, match="AUROC is 1/2"):
        relative_leakage((ties, ties), (ties, ties))
