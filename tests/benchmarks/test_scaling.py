"""The fitted exponent of a known law, and what the table says of it."""

import time
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.scaling import fit, measure
from benchmarks.scaling_axes import AXES, Axis


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_found(exponent: float) -> None:
    sizes = (100, 300, 1000)
    seconds = [[3.0 * size**exponent] * 2 for size in sizes]
    assert fit(sizes, seconds) == pytest.approx((exponent,) * 3)


def test_the_interval_covers_a_noisy_law_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    sizes = (100, 300, 1000)
    hits = 0
    for _ in range(400):
        seconds = [list(size * np.exp(draw.normal(0, 0.1, size=3))) for size in sizes]
        _, lower, upper = fit(sizes, seconds)
        hits += lower <= 1.0 <= upper
    assert 365 <= hits <= 394  # 95% of 400 within three standard errors


def test_fixed_costs_at_small_sizes_do_not_hide_a_square(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = {"seconds": 0.0}
    monkeypatch.setattr(time, "process_time", lambda: spent["seconds"])

    def prepare(size: int):
        def work() -> None:
            spent["seconds"] += 1e5 + size**2

        return work

    axis = Axis("squares", (1, 10, 10_000, 30_000, 100_000), prepare)
    found = measure(axis, repeats=2)
    assert found.exponent == pytest.approx(2.0, abs=0.01)
    assert found.verdict == "FASTER THAN LINEAR"
    assert replace(found, reason="pairs").verdict == "pairs"
    assert replace(found, lower=1.05).verdict == "linear or less"


@pytest.mark.parametrize(("cost", "times"), [(1.0, 10), (4.0, 5), (50.0, 2)])
def test_a_quick_axis_is_repeated_for_a_minute_or_ten_times(
    cost: float, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = {"seconds": 0.0}
    monkeypatch.setattr(time, "process_time", lambda: spent["seconds"])

    def work() -> None:
        spent["seconds"] += cost

    found = measure(Axis("constant", (1, 2, 3), lambda size: work), repeats=2)
    assert [len(one) for one in found.seconds] == [times] * 3


def test_every_axis_has_enough_sizes_and_its_smallest_one_runs() -> None:
    quick = [axis for axis in AXES if axis.name.startswith(("objective", "training", "token"))]
    assert len(quick) == 4
    for axis in AXES:
        assert len(axis.sizes) >= 4
        assert list(axis.sizes) == sorted(axis.sizes)
    for axis in quick:
        axis.prepare(axis.sizes[0])()
