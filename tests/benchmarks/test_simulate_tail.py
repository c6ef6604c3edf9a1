"""The simulation of single records counts what it says, and its targets can be missed."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.simulate_tail import Draw, Pool, draw, line

FEW = Pool("a few", share=0.1, records=60, never=20, worlds=8)


def test_a_draw_is_of_the_pool_that_is_named() -> None:
    found = draw(FEW, np.random.default_rng(0))
    assert found == draw(FEW, np.random.default_rng(0))
    assert found.true == pytest.approx(0.1)
    assert FEW.enough == pytest.approx(1.8087, abs=1e-3)
    assert replace(FEW, degrees=5.0).enough == pytest.approx(3.4217, abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "met"),
    [({}, True), ({"upper": 0.05}, False), ({"lower": 0.12}, False), ({"false": 0.2}, False)],
)
def test_targets_can_be_missed(changes: dict[str, float], met: bool) -> None:
    right = Draw(0.1, 0.12, 0.1, 0.05, 0.2, 0.9, 0.04, 6)
    text, is_met = line(FEW, [replace(right, **changes)] * 40)
    assert is_met is met
    assert text.endswith("| yes |" if met else "| NO |")


def test_where_nothing_is_to_be_found_any_name_is_false() -> None:
    clean = Pool("nothing")
    nobody = Draw(0.0, 0.01, 0.0, 0.0, 0.01, float("nan"), 0.0, 0)
    named = replace(nobody, named=1, false=1.0)
    assert line(clean, [nobody] * 38 + [named] * 2)[1]
    assert not line(clean, [nobody] * 20 + [named] * 20)[1]
