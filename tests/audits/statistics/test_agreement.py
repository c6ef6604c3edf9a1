"""Agreement of two measures against scipy, plain loops, random tie-breaking and simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats

from audits.statistics.agreement import (
    RankingAgreement,
    crossings,
    kendall_tau,
    ranking_agreement,
    top_overlap,
)


@pytest.mark.parametrize("ties", [100, 4])
def test_tau_equals_scipy(ties: int) -> None:
    rng = np.random.default_rng(ties)
    for k in (2, 6, 15):
        a, b = rng.integers(ties, size=(2, k))
        expected = stats.kendalltau(a, b).statistic
        found = kendall_tau(a, b)
        assert (found is None) == np.isnan(expected)
        assert found is None or found == pytest.approx(expected, abs=1e-12)
    assert kendall_tau([1, 1], [1, 2]) is None


def scipys_tau(a: np.ndarray, b: np.ndarray) -> float:
    return float(stats.kendalltau(a.mean(axis=0), b.mean(axis=0)).statistic)


@pytest.mark.parametrize("r", [2, 4, 5])
def test_tau_and_its_ceilings_compare_half_with_half(r: int) -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(6.0)
    x, y = truth + rng.normal(0, 1.0, (r, 6)), -truth + rng.normal(0, 1.0, (r, 6))
    found = ranking_agreement(x, y)
    rows: list[tuple[float, float, float]] = []
    for half in itertools.combinations(range(r), r // 2):
        a, b = list(half), [i for i in range(r) if i not in half]
        crossed = (scipys_tau(x[a], y[b]) + scipys_tau(x[b], y[a])) / 2
        rows.append((crossed, scipys_tau(x[a], x[b]), scipys_tau(y[a], y[b])))
    expected = np.mean(rows, axis=0)
    assert (found.tau, found.membership_ceiling, found.memorization_ceiling) == pytest.approx(
        expected.tolist()
    )
    assert found.membership_ceiling > 0 > found.tau


def test_equal_rankings_lie_below_both_ceilings_no_more_often_than_chance() -> None:
    """One in three where the three come from the same halves; 94 in 100 against half-means."""
    rng = np.random.default_rng(1)
    below = 0
    for _ in range(300):
        x, y = 0.03 * np.arange(6.0) + 0.06 * rng.normal(size=(2, 5, 6))
        found = ranking_agreement(x, y)
        assert found.tau is not None
        below += found.tau < min(found.membership_ceiling, found.memorization_ceiling)
    assert below / 300 <= 1 / 3 + 2 * (2 / 9 / 300) ** 0.5


def test_many_replicates_are_halved_at_random_and_always_alike() -> None:
    x, y = np.random.default_rng(2).normal(size=(2, 30, 4))
    assert ranking_agreement(x, y) == ranking_agreement(x, y)
    assert ranking_agreement(x, y) != ranking_agreement(x, y, seed=1)


def test_one_replicate_has_no_halves_and_ties_have_no_ranking() -> None:
    assert ranking_agreement([[1, 2, 3]], [[2, 1, 3]]) == RankingAgreement(None, None, None)
    tied = ranking_agreement(np.ones((3, 4)), np.tile(np.arange(4.0), (3, 1)))
    assert tied == RankingAgreement(None, None, 1.0)


def crossing_by_hand(x: np.ndarray, y: np.ndarray) -> float:
    ways = []
    for sign in (1, -1):
        one = stats.ttest_1samp(sign * x, 0.02, alternative="greater").pvalue
        other = stats.ttest_1samp(-sign * y, 0.01, alternative="greater").pvalue
        ways.append(max(one, other))
    return min(1.0, 2 * min(ways))


def test_crossings_equal_scipys_t_tests() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 5, 4)) * 0.05
    x[:, 1] += 0.3
    y[:, 1] -= 0.3
    pairs = list(itertools.combinations(range(4), 2))
    raw = [crossing_by_hand(x[:, a] - x[:, b], y[:, a] - y[:, b]) for a, b in pairs]
    expected = np.empty(6)
    running = 0.0
    for place, index in enumerate(np.argsort(raw)):
        running = max(running, min(1.0, raw[index] * (6 - place)))
        expected[index] = running
    found = crossings(x, y)
    assert [(one.a, one.b) for one in found] == pairs
    assert [one.p_value for one in found] == pytest.approx(expected.tolist())
    confirmed = {(one.a, one.b) for one in found if one.p_value is not None and one.p_value < 0.05}
    assert confirmed == {(0, 1), (1, 2), (1, 3)}
    assert found[0].membership.value == pytest.approx((x[:, 0] - x[:, 1]).mean())


def test_no_crossing_where_both_measures_agree_or_one_is_within_its_margin() -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(2, 8, 2)) * 0.002
    for membership, memorization in ((0.3, 0.3), (0.3, -0.008), (0.015, -0.3)):
        x, y = noise.copy()
        x[:, 0] += membership
        y[:, 0] += memorization
        assert crossings(x, y)[0].p_value > 0.5
    x, y = noise.copy()
    x[:, 0] += 0.3
    y[:, 0] -= 0.3
    assert crossings(x, y)[0].p_value < 1e-6
    assert crossings(x[:1], y[:1])[0].p_value is None


def test_replicates_that_all_agree_are_no_proof_of_a_crossing() -> None:
    exact = crossings([[0.9, 0.5]] * 5, [[0.1, 0.5]] * 5)[0]
    assert exact.p_value is None
    assert not exact.membership.has_interval
    rng = np.random.default_rng(0)
    half = crossings([[0.9, 0.5]] * 5, [0.1, 0.5] + 0.01 * rng.normal(size=(5, 2)))[0]
    assert half.p_value is None
    assert half.memorization.has_interval


def test_crossings_are_rarely_found_at_the_edge_of_their_null() -> None:
    """Membership far beyond its margin, memorization exactly on it: 5% at most."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(800):
        x, y = rng.normal(size=(2, 5, 2)) * 0.01
        x[:, 0] += 0.5
        y[:, 0] -= 0.01
        found.append(crossings(x, y)[0].p_value)
    assert np.mean(np.array(found) <= 0.05) < 0.05


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.5])
def test_overlap_equals_breaking_ties_at_random(share: float) -> None:
    rng = np.random.default_rng(3)
    a = rng.normal(size=120)
    b = np.round(0.7 * a + rng.normal(size=120) * 0.7)
    found = top_overlap(a, b, share)
    n_top = found.n_top
    assert n_top == -(-120 * share // 1)
    first = set(np.argsort(-a)[:n_top])
    shares = []
    for _ in range(4000):
        order = rng.permutation(120)
        second = order[np.argsort(-b[order], kind="stable")][:n_top]
        shares.append(len(first & set(second)) / n_top)
    error = np.std(shares) / len(shares) ** 0.5
    assert found.value == pytest.approx(np.mean(shares), abs=5 * error + 1e-12)
    assert found.chance == pytest.approx(n_top / 120)


def test_overlap_of_ties_alone_is_that_of_chance() -> None:
    everything = top_overlap(np.zeros(50), np.zeros(50), 0.1)
    assert everything.value == pytest.approx(everything.chance) == pytest.approx(0.1)
    same = np.arange(50.0)
    assert top_overlap(same, same, 0.1).value == 1.0
    assert top_overlap(same, -same, 0.1).value == 0.0
    assert top_overlap(np.arange(100.0), np.arange(100.0), 0.01).n_top == 1


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="two rankings"):
        kendall_tau([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match=r"\[replicates, techniques\]"):
        ranking_agreement([[1, 2]], [[1, 2, 3]])
    with pytest.raises(ValueError, match="share"):
        top_overlap([1, 2], [1, 2], 0.0)
