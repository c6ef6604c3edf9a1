"""What the benchmark of the cached teacher makes of its rounds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.teacher_cache import QUICKSTART, TARGET, Row, Run, as_markdown, compare, verdict


class OneStore:
    """Stands in for a store of 1,000 rows."""

    disk_bytes, n_rows = 2_000_000, 1000

    def __init__(self, path: Path) -> None:
        assert path.name == "the-only-store"


def run(start: float, epoch: float) -> Run:
    return Run(start, [epoch + 1, epoch], [2 * epoch + 1, 2 * epoch], [0.5])


@pytest.fixture
def row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Row:
    monkeypatch.setattr("benchmarks.teacher_cache.Store", OneStore)
    (tmp_path / "the-only-store").mkdir()
    runs = {
        "live": [run(1, 6), run(1, 6), run(1, 8)],
        "empty cache": [run(4, 4), run(5, 4), run(3, 4)],
        "cache there": [run(1, 3), run(2, 4), run(1, 5)],
    }
    return compare(QUICKSTART, runs, tmp_path, n_vocabulary=500)


def test_a_row_holds_medians_of_rounds_and_their_spread(row: Row) -> None:
    assert (row.live, row.cached, row.ratio, row.spread) == (6, 4, 1.6, (1.5, 2.0))
    assert (row.clock_ratio, row.build, row.open) == (1.6, 3, 0)
    assert row.pays_after == 1, "3 s of building, an epoch 3 s quicker"
    assert row.share == (pytest.approx(36 / 49), pytest.approx(41 / 65))
    assert (row.disk_mb, row.logp_mb) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("spread", "said"),
    [((1.6, 2.0), "met"), ((1.3, 1.59), "missed"), ((1.5, 1.7), "reached in some rounds only")],
)
def test_the_target_is_met_where_every_round_meets_it(
    row: Row, spread: tuple[float, float], said: str
) -> None:
    measured = replace(row, spread=spread)
    assert verdict(measured) == said
    setting: dict[str, Any] = {"records": 10}
    text = as_markdown([measured], setting)
    assert text.endswith(f"{TARGET} times faster, {said}.\n")
    assert "| 1.60 ({:.2f} to {:.2f}) |".format(*spread) in text
