"""The comparison of attacks with shadow worlds and without: rates, and intervals that cover."""

import numpy as np
import pytest
from scipy import stats

from audits.statistics import tpr_at_fpr
from benchmarks.shadow_attacks import differences, resampled, tpr


def test_rates_are_those_of_the_audits() -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(1, 1, (3, 150)), rng.normal(0, 1, (3, 170)).round(1)
    for fpr in (0.01, 0.1):
        expected = [tpr_at_fpr(a, b, fpr).value for a, b in zip(inside, outside, strict=True)]
        assert tpr(inside, outside, fpr) == pytest.approx(expected)


def test_clusters_are_drawn_whole() -> None:
    clusters = np.array([5, 3, 5, 9, 9, 9])
    places = resampled(clusters, np.random.default_rng(1))
    drawn, counts = np.unique(clusters[places], return_counts=True)
    sizes = {3: 1, 5: 2, 9: 3}
    assert all(count % sizes[one] == 0 for one, count in zip(drawn, counts, strict=True))


def test_a_stronger_attack_is_told_from_a_weaker_one_and_from_itself() -> None:
    """Shifts 2, 1 and 1; intervals of both pairs hold in 95% of studies, by 40 of them."""
    covered = 0
    truth = np.array(
        [stats.norm.sf(stats.norm.isf(0.1) - 2) - stats.norm.sf(stats.norm.isf(0.1) - 1), 0.0]
    )
    for seed in range(40):
        rng = np.random.default_rng(seed)
        inside, outside = (rng.normal(size=(3, 300)) for _ in range(2))
        inside += np.array([[2.0], [1.0], [1.0]])
        own = np.arange(300)
        found = differences((inside, outside), (own, own), [(0, 1), (1, 2)], 0.1, draws=200)
        ends = np.array(found)
        covered += bool(((ends[:, 1] <= truth) & (truth <= ends[:, 2])).all())
        assert ends[0, 1] > 0.0
    assert covered >= 33
