"""One test over all attacks: a planted leak is found, luck among many attacks is not."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from audits.membership.any_leak import N_PERMUTATIONS, any_leak_rows
from audits.membership.metrics import ScoredRecords
from audits.results import table_from_rows
from audits.statistics import auroc
from audits.statistics.multiplicity import max_t


def side(population: str, scores: np.ndarray, clusters: np.ndarray) -> list[ScoredRecords]:
    ids = [f"{population}-{i}" for i in range(scores.shape[1])]
    return [ScoredRecords(population, ids, ["qa"] * len(ids), clusters, one) for one in scores]


def attacks(k: int) -> Sequence[Any]:
    return [SimpleNamespace(name=f"attack{i}", params={}) for i in range(k)]


def drawn(seed: int, shifts: Sequence[float], n: int = 60, size: int = 1) -> list[Any]:
    """Scores of both sides; records of a cluster of `size` share half of their variance."""
    rng = np.random.default_rng(seed)
    found = []
    for number, population in enumerate(("private", "held_out")):
        clusters = np.arange(n) // size
        shared = rng.normal(size=(1, n // size + 1))[:, clusters]
        own = rng.normal(size=(len(shifts), n))
        scores = 0.7 * shared + 0.7 * own if size > 1 else own
        if population == "private":
            scores = scores + np.array(shifts)[:, None]
        found.append(side(population, scores, clusters + number * 10**6))
    return found


def test_a_leak_of_one_attack_is_found_and_named() -> None:
    members, nonmembers = drawn(0, [0.0, 1.0, 0.0])
    (row,) = any_leak_rows(attacks(3), members, nonmembers, False)
    x, y = (np.array([one.scores for one in side]) for side in (members, nonmembers))
    expected = max_t(
        x,
        y,
        N_PERMUTATIONS,
        member_clusters=members[0].clusters,
        nonmember_clusters=nonmembers[0].clusters,
    )
    assert row["p_value"] == min(expected.p_values) == 1 / (N_PERMUTATIONS + 1)
    assert row["value"] == max(expected.statistics)
    assert row["params"] == {"attacks": 3, "permutations": N_PERMUTATIONS, "largest": "attack1"}
    assert (row["n_members"], row["n_nonmembers"], row["shifted"]) == (60, 60, False)
    identity = {"run": "a", "role": "student", "family": "x", "size": "y", "technique": None}
    table_from_rows("results", [{**identity, "seed": 0, "step": 1, "audit": "membership", **row}])


def test_the_best_of_many_attacks_on_nothing_is_no_leak() -> None:
    """The largest AUROC of 20 independent attacks has a 90% interval above 0.5 in half the runs."""
    best, tested = [], []
    for seed in range(60):
        members, nonmembers = drawn(seed, [0.0] * 20, n=40)
        lower = [
            auroc(a.scores, b.scores, level=0.9).lower
            for a, b in zip(members, nonmembers, strict=True)
        ]
        best.append(max(lower) > 0.5)
        (row,) = any_leak_rows(attacks(20), members, nonmembers, None)
        tested.append(float(str(row["p_value"])) <= 0.05)
    assert np.mean(best) > 0.4
    assert np.mean(tested) <= 0.05 + 2 * (0.05 * 0.95 / 60) ** 0.5


def test_labels_move_with_their_clusters() -> None:
    """Clusters of four that score alike: record by record every third null would be a leak."""
    tested = []
    for seed in range(60):
        members, nonmembers = drawn(seed, [0.0, 0.0], n=80, size=4)
        (row,) = any_leak_rows(attacks(2), members, nonmembers, None)
        tested.append(float(str(row["p_value"])) <= 0.05)
    assert np.mean(tested) <= 0.05 + 2 * (0.05 * 0.95 / 60) ** 0.5


def test_records_that_some_attack_did_not_score_are_left_out_of_all() -> None:
    members, nonmembers = drawn(1, [0.8, 0.8])
    keep = np.arange(60) >= 7
    partial = [members[0].where(keep), members[1]]
    (row,) = any_leak_rows(attacks(2), partial, nonmembers, None)
    both = [one.where(keep) for one in members]
    assert (row,) == tuple(any_leak_rows(attacks(2), both, nonmembers, None))
    assert row["n_members"] == 53


@pytest.mark.parametrize("n", [0, 3])
def test_too_few_clusters_have_a_count_and_no_value(n: int) -> None:
    members, nonmembers = drawn(2, [0.0, 0.0])
    few = [one.where(np.arange(60) < n) for one in members]
    (row,) = any_leak_rows(attacks(2), few, nonmembers, None)
    assert (row["n_members"], row["n_nonmembers"]) == (n, 60)
    assert (row["value"], row["p_value"]) == (None, None)
    assert not any_leak_rows(attacks(1), members[:1], nonmembers[:1], None)
