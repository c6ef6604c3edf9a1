"""Luck does not come twice: chosen on one half of the worlds, measured on the other."""

import math
import statistics

import numpy as np
import pytest

from audits.tail.moderation import moderated
from audits.tail.most_exposed import most_exposed
from audits.tail.separations import separations
from benchmarks.planted_worlds import planted


def test_the_measure_equals_a_loop() -> None:
    found = planted(np.random.default_rng(21), 60, 8, 1.0, duplicates=2)
    result = most_exposed(found, 0.1)
    sums, times = [0.0] * 120, [0] * 120
    for half in (0, 1):
        ranking = moderated(found.half(half).by_cluster()).statistic.tolist()
        top = {7 * c + 3 for c in sorted(range(60), key=lambda c: -ranking[c])[:6]}
        other = separations(found.half(1 - half)).value
        for record in range(120):
            chosen = int(found.clusters[record]) in top
            assert result.chosen[half, record] == chosen
            sums[record] += chosen * other[record]
            times[record] += chosen
    everyone = result.separation()
    assert everyone is not None
    assert everyone.value == pytest.approx(sum(sums) / sum(times))
    assert everyone.n == sum(count > 0 for count in times)
    first = np.arange(120) < 60
    part = result.separation(first)
    assert part is not None
    assert part.value == pytest.approx(sum(sums[:60]) / sum(times[:60]))
    assert result.separation(~result.chosen.any(axis=0)) is None


def test_luck_is_not_measured_and_exposure_is() -> None:
    again, covered, same_half = [], 0, []
    for seed in range(60):
        found = planted(np.random.default_rng([22, seed]), 200, 16)
        result = most_exposed(found)
        one = result.separation()
        assert one is not None
        assert one.lower is not None
        assert one.upper is not None
        again.append(one.value)
        covered += one.lower <= 0.0 <= one.upper
        same_half.append(separations(found.half(0)).value[result.chosen[0]].mean())
    assert statistics.fmean(same_half) > 1.0
    assert abs(statistics.fmean(again)) < 4.0 * statistics.stdev(again) / math.sqrt(60)
    # Below 51 of 60 happens to an interval of 95% once in 1,000 times.
    assert covered >= 51
    truth = np.where(np.arange(200) < 10, 4.0, 0.0)
    found = planted(np.random.default_rng(23), 200, 16, truth)
    result = most_exposed(found)
    one = result.separation(np.arange(200) < 10)
    assert result.chosen[:, :10].mean() > 0.8
    assert one is not None
    assert one.value == pytest.approx(4.0, abs=0.6)


def test_halves_need_pairs_enough() -> None:
    rng = np.random.default_rng(24)
    with pytest.raises(ValueError, match="8 worlds or more expected, found 6"):
        most_exposed(planted(rng, 30, 6))
    with pytest.raises(ValueError, match="share"):
        most_exposed(planted(rng, 30, 8), 0.0)
    assert most_exposed(planted(rng, 30, 8)).chosen.sum(axis=1).tolist() == [2, 2]
