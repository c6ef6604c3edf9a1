"""Worlds come in complementary pairs, and a cluster has one coin."""

from dataclasses import replace

import numpy as np
import pytest

from audits.tail.world_scores import WorldScores
from benchmarks.planted_worlds import planted

FOUND = planted(np.random.default_rng(0), 12, 8, duplicates=2)


def test_a_half_has_whole_pairs_and_each_record_equally_often() -> None:
    even, odd = FOUND.half(0), FOUND.half(1)
    assert np.array_equal(even.scores, FOUND.scores[[0, 1, 4, 5]])
    assert np.array_equal(odd.met, FOUND.met[[2, 3, 6, 7]])
    assert (even.met.sum(axis=0) == 2).all()


def test_a_cluster_has_the_mean_of_its_records() -> None:
    units = FOUND.by_cluster()
    assert units.clusters.tolist() == [7 * number + 3 for number in range(12)]
    for column, cluster in enumerate(units.clusters):
        own = FOUND.clusters == cluster
        for world in range(8):
            scores = FOUND.scores[world, own].tolist()
            assert units.scores[world, column] == pytest.approx(sum(scores) / len(scores))
            assert (FOUND.met[world, own] == units.met[world, column]).all()


def changed(**fields: np.ndarray) -> WorldScores:
    return replace(FOUND, **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scores": FOUND.scores[:2], "met": FOUND.met[:2]}, "2 pairs or more: found 2 worlds"),
        ({"scores": FOUND.scores[:5], "met": FOUND.met[:5]}, "found 5 worlds"),
        ({"met": FOUND.met[:, :3]}, "expected .worlds, records. scores"),
        ({"scores": np.where(FOUND.met, np.nan, 0.0)}, "96 scores are not finite"),
        ({"met": np.zeros_like(FOUND.met)}, "not complementary"),
        ({"clusters": FOUND.clusters % 2}, "found 2"),
        ({"clusters": np.roll(FOUND.clusters, 1)}, "different coins"),
    ],
)
def test_what_cannot_judge_a_record_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        changed(**fields)


def test_half_of_too_few_worlds_is_refused() -> None:
    with pytest.raises(ValueError, match="2 pairs or more: found 2 worlds"):
        FOUND.half(0).half(0)
