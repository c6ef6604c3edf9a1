"""The simulation of tests of sets deals what it says, and its target can be missed."""

from functools import partial

import numpy as np

from audits.membership.metrics import ScoredRecords
from benchmarks.simulate_sets import (
    Run,
    Side,
    alarms,
    normal,
    null_line,
    opposed,
    power_line,
    relabelled,
    rows_of,
)


def side(population: str, shift: float, first: int) -> Side:
    """120 clusters of two records each under two attacks."""
    numbers = np.repeat(np.arange(first, first + 120), 2)
    ids = [f"{population}{i}" for i in range(240)]
    rng = np.random.default_rng(first)
    return [
        ScoredRecords(population, ids, ["all"] * 240, numbers, rng.normal(shift, size=240))
        for _ in range(2)
    ]


RUN = Run("student", "student", {"private": side("private", 0.8, 1), "held_out": side("b", 0, 500)})


def test_coins_deal_whole_clusters_and_halves_are_dealt_anew() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = relabelled(RUN.sides["held_out"], rng)
    assert sorted(ours[0].record_ids + theirs[0].record_ids) == sorted(
        RUN.sides["held_out"][0].record_ids
    )
    assert not set(ours[0].clusters) & set(theirs[0].clusters)
    assert 0.3 < len(ours[0].scores) / 240 < 0.7
    first, second = opposed(RUN, rng), opposed(RUN, rng)
    assert not set(first[0][0].clusters) & set(second[0][0].clusters)
    assert np.array_equal(first[0][0].scores, RUN.sides["private"][0].scores)


def test_members_are_recognised_and_nobody_is_where_there_are_none() -> None:
    found = rows_of(partial(opposed, RUN), 2, seed=0)
    assert power_line(RUN, found).startswith(f"| student | {RUN.auroc:.3f} | 2 | 1.00 |")
    assert alarms(found) == 2
    for draw in (partial(relabelled, RUN.sides["held_out"]), partial(normal, 90, 2)):
        assert alarms(rows_of(draw, 4, seed=1)) <= 2


def test_a_target_is_missed_from_18_of_200_on() -> None:
    (leak,), (none,) = rows_of(partial(opposed, RUN), 1, 0), rows_of(partial(normal, 90, 2), 1, 0)
    assert alarms([none]) == 0
    for count, met in ((17, "yes"), (18, "NO")):
        line = null_line("records", [leak] * count + [none] * (200 - count))
        assert line.startswith(f"| records | 200 | {count} | <= 17 | {met} |")
