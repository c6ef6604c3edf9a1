"""Weights against the average over drawn subsamples, which they stand for."""

import numpy as np
import pandas as pd
import pytest

from studies.compare.task_matching import length_cuts, match_sides, match_tasks


def records(seed: int, n: int) -> tuple[pd.Series, pd.Series]:
    rng = np.random.default_rng(seed)
    names = [f"{seed}-{i}" for i in range(n)]
    tasks = pd.Series(rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2]), index=names)
    mean = tasks.map({"a": 10, "b": 20, "c": 25}).to_numpy()
    return tasks, pd.Series(rng.poisson(mean), index=names).astype(np.int64)


def test_weights_are_the_chance_of_being_drawn() -> None:
    tasks, lengths = records(0, 300)
    cuts = length_cuts([lengths])
    assert cuts.tolist() == np.percentile(lengths, [25, 50, 75]).tolist()
    matched = match_tasks(tasks, lengths, ["a", "b", "c"], cuts)
    classes = (lengths.to_numpy()[:, None] > cuts).sum(axis=1)
    expected = 0
    for number in range(4):
        counts = [int(((tasks == task) & (classes == number)).sum()) for task in "abc"]
        expected += min(counts)
        for task, count in zip("abc", counts, strict=True):
            own = matched.records[((tasks == task) & (classes == number)).to_numpy()]
            assert own["weight"].to_numpy() == pytest.approx(min(counts) / max(count, 1))
    assert matched.per_task == expected
    for task in "abc":
        chosen = matched.of(task)
        assert chosen["weight"].sum() == pytest.approx(expected)
        assert (chosen["weight"] > 0).all()
    means = [
        np.average(matched.of(task)["length"], weights=matched.of(task)["weight"]) for task in "abc"
    ]
    raw = [lengths[tasks == task].mean() for task in "abc"]
    assert np.ptp(means) < 0.25 * np.ptp(raw)


def test_sides_share_classes_and_keep_the_tasks_that_both_have() -> None:
    (tasks, lengths), (others, their_lengths) = records(1, 200), records(2, 150)
    others = others[others != "c"]
    both, all_lengths = pd.concat([tasks, others]), pd.concat([lengths, their_lengths])
    sides = match_sides(tasks.index, others.index, both, all_lengths)
    assert sides is not None
    assert sides.names == ("a", "b")
    cuts = length_cuts([lengths, their_lengths[others.index]])
    alone = match_tasks(others, their_lengths[others.index], ["a", "b"], cuts)
    pd.testing.assert_frame_equal(sides.nonmembers.records, alone.records)
    assert sides.fewest == min(sides.members.per_task, sides.nonmembers.per_task)
    assert match_sides(tasks.index, others.index[:0], both, all_lengths) is None
    assert match_sides(tasks.index, others.index, both, all_lengths[:0]) is None
