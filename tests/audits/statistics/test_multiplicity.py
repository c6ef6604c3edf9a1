"""Permuted labels, the max-T test and the false-discovery rate against loops."""

import numpy as np
import pytest

from audits.statistics import auroc, max_t
from audits.statistics.multiplicity import benjamini_hochberg, permuted_labels


def planted(seed: int, shifts: list[float], n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of len(shifts) attacks that share most of their noise, some of them tied."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(1, n + m))
    scores = 0.8 * common + 0.6 * rng.normal(size=(len(shifts), n + m))
    scores[:, :n] += np.array(shifts)[:, None]
    scores = scores.round(1)
    return scores[:, :n], scores[:, n:]


def naive_max_t(x: np.ndarray, y: np.ndarray, labels: np.ndarray) -> list[float]:
    scores = np.concatenate([x, y], axis=1)
    table = [
        [auroc(row[labels[:, p]], row[~labels[:, p]]).value for row in scores]
        for p in range(labels.shape[1])
    ]
    k = len(scores)
    means = [sum(row[a] for row in table) / len(table) for a in range(k)]
    spreads = [
        (sum((row[a] - means[a]) ** 2 for row in table) / len(table)) ** 0.5 for a in range(k)
    ]
    z = [[(row[a] - means[a]) / spreads[a] for a in range(k)] for row in table]
    return [sum(max(row) >= z[0][a] - 1e-12 for row in z) / len(z) for a in range(k)]


def test_max_t_equals_a_loop() -> None:
    x, y = planted(0, [0.6, 0.3, 0.0, -0.5], 40, 30)
    ids = np.random.default_rng(1).integers(0, 40, 70)
    labels = permuted_labels(np.arange(70) < 40, ids, 60, np.random.default_rng(5))
    found = max_t(x, y, 60, member_clusters=ids[:40], nonmember_clusters=ids[40:], seed=5)
    np.testing.assert_allclose(found.p_values, naive_max_t(x, y, labels))


def test_a_leak_of_one_attack_is_found_and_an_inverted_one_is_none() -> None:
    x, y = planted(3, [1.0, 0.0, -1.0], 80, 80)
    found = max_t(x, y, 199).p_values
    assert found[0] == 1 / 200
    assert found[1] > 0.05
    assert found[2] == 1.0


def test_max_t_keeps_its_level_where_nothing_leaks() -> None:
    smallest = [
        max_t(*planted(seed, [0.0] * 5, 30, 30), 99, seed=seed).p_values.min()
        for seed in range(300)
    ]
    rejected = np.mean(np.array(smallest) <= 0.05)
    assert 0.02 <= rejected <= 0.085


def test_alike_attacks_pay_less_than_under_holm() -> None:
    x, y = planted(1, [0.35], 100, 100)
    alone = max_t(x, y, 999).p_values[0]
    many = max_t(np.repeat(x, 20, axis=0), np.repeat(y, 20, axis=0), 999)
    assert many.p_values == pytest.approx([alone] * 20)
    assert 0.0 < alone < 0.5


def test_labels_are_exchanged_between_whole_clusters() -> None:
    clusters = np.array([7, 7, 7, 8, 9, 9, 5, 5, 6, 4])
    inside = np.array([1, 1, 1, 0, 1, 0, 0, 0, 1, 0], dtype=bool)
    labels = permuted_labels(inside, clusters, 500, np.random.default_rng(0))
    assert labels.shape == (10, 501)
    assert np.array_equal(labels[:, 0], inside)
    for rows in ([0, 1, 2], [6, 7]):
        assert np.all(labels[rows] == labels[rows[0]])
    units = labels[[0, 3, 4, 5, 6, 8, 9]]
    assert np.all(units.sum(axis=0) == 3)
    np.testing.assert_allclose(units[:, 1:].mean(axis=1), 3 / 7, atol=0.08)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((2, 3)), np.zeros((1, 3)), r"\[K, n\]"),
        (np.zeros(3), np.zeros(3), r"\[K, n\]"),
        (np.zeros((1, 0)), np.zeros((1, 3)), r"\[K, n\]"),
        (np.full((1, 3), np.nan), np.zeros((1, 3)), "3 scores are NaN"),
    ],
)
def test_max_t_refuses_what_it_cannot_test(x: np.ndarray, y: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        max_t(x, y)


def test_max_t_needs_clusters_on_both_sides_and_a_permutation() -> None:
    with pytest.raises(ValueError, match="for neither"):
        max_t(np.zeros((1, 2)), np.ones((1, 2)), member_clusters=[0, 1])
    with pytest.raises(ValueError, match="n_permutations"):
        max_t(np.zeros((1, 2)), np.ones((1, 2)), 0)


def test_the_false_discovery_rate_equals_a_loop() -> None:
    p = np.random.default_rng(6).random(50).round(2) ** 3
    ranked = sorted(p.tolist())
    found = benjamini_hochberg(p)
    for value, adjusted in zip(p.tolist(), found.tolist(), strict=True):
        rest = [50 * one / rank for rank, one in enumerate(ranked, 1) if one >= value]
        assert adjusted == pytest.approx(min(1.0, *rest))
    assert benjamini_hochberg([]).size == 0
    for wrong in ([0.5, 1.5], [np.nan], [[0.5]]):
        with pytest.raises(ValueError, match="between 0 and 1"):
            benjamini_hochberg(wrong)
