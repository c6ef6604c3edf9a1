"""Rows that compare runs are computed once, and again only where something changed."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from kd_privacy.study_cli import main
from studies.compare import tables
from studies.compare.tables import COMPARISONS, write_study_tables
from studies.plan.cells import Plan
from studies.run.cell_state import CellFiles, write_json

OUT = Path("runs/small")
NAMES = ("results.parquet", "scores.parquet", "memorization.parquet", COMPARISONS)


@pytest.fixture
def computations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one with every computation of comparisons."""
    counted: list[str] = []
    compute = tables._derived_rows
    monkeypatch.setattr(
        tables, "_derived_rows", lambda *given: counted.append("") or compute(*given)
    )
    return counted


def traces() -> list[tuple[int, int]]:
    return [((OUT / name).stat().st_ino, (OUT / name).stat().st_mtime_ns) for name in NAMES]


@pytest.mark.usefixtures("without_pictures")
def test_report_and_claims_read_what_was_computed_once(
    finished: Plan, computations: list[str]
) -> None:
    write_json(OUT / "plan.json", finished.as_dict())
    arguments = ["configs/studies/small.yaml", "--run_dir", str(OUT)]
    assert main(["claims", *arguments]) == 0
    before = traces()
    assert main(["report", *arguments]) == main(["claims", *arguments]) == 0
    assert len(computations) == 1
    assert traces() == before


def test_results_end_with_the_comparisons(finished: Plan) -> None:
    write_study_tables(finished, OUT)
    results, comparisons = (
        pd.read_parquet(OUT / name) for name in ("results.parquet", COMPARISONS)
    )
    own = sum(len(pd.read_parquet(f"{cell.run_dir}/results.parquet")) for cell in finished.cells)
    assert len(results) - own == len(comparisons) > 0
    assert comparisons["run_b"].notna().all()
    after = results.iloc[own:].reset_index(drop=True)
    pd.testing.assert_frame_equal(after, comparisons, check_dtype=False, check_exact=True)
    assert results.iloc[:own]["run_b"].isna().all()


def touch(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(plan.cells[0].run_dir) / "scores.parquet"
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))


def put_another_in_place(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that was done again elsewhere and copied with its times."""
    path = Path(plan.cells[0].run_dir) / "scores.parquet"
    found = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def remove_a_merged_table(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    (OUT / "memorization.parquet").unlink()


def lose_a_cell(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    CellFiles(plan.cells[-1]).write("failed", {})


def change_a_rule(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_code_digest", lambda: "another version")


def break_off_while_writing(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill after the merge: the new tables lie beside the old comparisons."""
    (OUT / "results.parquet").write_bytes((OUT / "results.parquet").read_bytes())


@pytest.mark.parametrize(
    "change",
    [
        touch,
        put_another_in_place,
        remove_a_merged_table,
        lose_a_cell,
        change_a_rule,
        break_off_while_writing,
    ],
)
def test_whatever_changed_is_computed_again(
    finished: Plan,
    computations: list[str],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Plan, pytest.MonkeyPatch], None],
) -> None:
    for _ in range(2):
        write_study_tables(finished, OUT)
    assert len(computations) == 1
    change(finished, monkeypatch)
    for _ in range(2):
        write_study_tables(finished, OUT)
    assert len(computations) == 2
    assert all((OUT / name).is_file() for name in NAMES)


def test_shards_that_end_together_write_one_after_the_other(
    finished: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = threading.Thread(target=write_study_tables, args=(finished, OUT))
    compute = tables._derived_rows
    counted = []

    def interrupted(*given: object) -> object:
        counted.append(len(counted))
        if len(counted) == 1:
            other.start()
            other.join(timeout=0.5)
            assert other.is_alive()
        return compute(*given)

    monkeypatch.setattr(tables, "_derived_rows", interrupted)
    write_study_tables(finished, OUT)
    other.join()
    assert counted == [0]
