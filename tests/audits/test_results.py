"""The results tables: schema checks, atomic parts, deterministic merges."""

import json
import os
import stat
import weakref
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audits import results
from audits.results import (
    RESULTS,
    SCORES,
    merge_parts,
    merge_runs,
    params_json,
    read_table,
    table_from_rows,
    write_part,
    write_table,
)
from common.errors import UserError


def result_row(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "run": "student",
        "role": "student",
        "step": 10,
        "audit": "membership",
        "population": "private",
        "name": "min_k",
        "params": {"k": 0.2},
        "metric": "auroc",
        "value": 0.75,
    }
    return row | changes


def score_row(record: str, score: float, **changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "run": "student",
        "step": 10,
        "record": record,
        "population": "private",
        "task": "open_qa",
        "name": "loss",
        "score": score,
    }
    return row | changes


def test_columns_are_the_contract() -> None:
    columns = (
        "run role family size technique seed step audit population task block name params "
        "metric value lower upper p_value run_b n_members n_nonmembers skipped shifted"
    )
    assert RESULTS.names == columns.split()
    assert SCORES.names == "run step record population task name params block score".split()
    assert results.MEMORIZATION.names == (
        "run step record population task name params value n_tokens".split()
    )


def test_what_does_not_apply_is_null_and_params_are_sorted() -> None:
    table = table_from_rows("results", [result_row(params={"tau": 1, "k": 0.2}), result_row()])
    first = table.to_pylist()[0]
    assert first["params"] == '{"k": 0.2, "tau": 1}'
    assert first["lower"] is None
    assert first["shifted"] is None
    text = table_from_rows("results", [result_row(params='{"z": 1, "a": 2}')]).to_pylist()[0]
    assert text["params"] == '{"a": 2, "z": 1}'
    assert table_from_rows("results", [result_row(params=None)]).to_pylist()[0]["params"] == "{}"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (result_row(auc=0.5), "auc"),
        ({k: v for k, v in result_row().items() if k != "metric"}, "metric"),
        (result_row(run=None), "run"),
        (result_row(value=float("nan")), "NaN"),
        (result_row(n_members="many"), "n_members"),
        (result_row(step=1.5), "step"),
        (result_row(shifted=1), "shifted"),
        (result_row(n_members=True), "n_members"),
        (result_row(params=[1]), "params"),
    ],
)
def test_a_row_that_does_not_fit_is_refused(row: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table_from_rows("results", [row])


def test_a_part_of_another_step_or_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="steps \\[10\\]"):
        write_part(tmp_path, "results", 11, "membership", [result_row()])
    with pytest.raises(ValueError, match="part name"):
        write_part(tmp_path, "results", 10, "../x", [result_row()])
    with pytest.raises(ValueError, match="unknown table"):
        write_part(tmp_path, "result", 10, "membership", [result_row()])


def test_an_audit_that_runs_again_replaces_its_part(tmp_path: Path) -> None:
    write_part(tmp_path, "results", 10, "membership", [result_row(value=0.1)] * 3)
    path = write_part(tmp_path, "results", 10, "membership", [result_row(value=0.9)])
    assert path == tmp_path / "parts" / "results" / "step=10-audit=membership.parquet"
    merge_parts(tmp_path)
    assert read_table(tmp_path, "results").column("value").to_pylist() == [0.9]


class CountedRow(dict[str, object]):
    """A row that can be referred to without being kept alive."""


def test_rows_are_written_while_they_are_made(tmp_path: Path) -> None:
    made: list[weakref.ref[CountedRow]] = []
    alive: list[int] = []

    def rows() -> Iterator[CountedRow]:
        for index in range(3 * results._ROWS_AT_ONCE + 5):
            row = CountedRow(score_row(f"r{index}", float(index)))
            made.append(weakref.ref(row))
            if index % results._ROWS_AT_ONCE == 0:
                alive.append(sum(one() is not None for one in made))
            yield row

    path = write_part(tmp_path, "scores", 10, "membership", rows())
    # The first of some rows is made while those before it, and names of one or two, are there.
    assert len(alive) == 4
    assert max(alive) < results._ROWS_AT_ONCE + 10
    assert pq.read_table(path).column("score").to_pylist() == [float(i) for i in range(len(made))]


def test_merge_does_not_depend_on_the_order_of_writing(tmp_path: Path) -> None:
    rows = [score_row(f"r{i}", float(i), step=step) for i in range(5) for step in (2, 10)]
    for folder, ordered in (("a", rows), ("b", rows[::-1])):
        for step in (10, 2) if folder == "a" else (2, 10):
            part = [row for row in ordered if row["step"] == step]
            write_part(tmp_path / folder, "scores", step, "membership", part)
        merge_parts(tmp_path / folder)
    first = (tmp_path / "a" / "scores.parquet").read_bytes()
    assert first == (tmp_path / "b" / "scores.parquet").read_bytes()
    merged = read_table(tmp_path / "a", "scores").to_pylist()
    assert [(row["step"], row["record"]) for row in merged] == sorted(
        (row["step"], row["record"]) for row in rows
    )


def test_merge_writes_every_table_and_ignores_half_written_files(tmp_path: Path) -> None:
    write_part(tmp_path, "results", 10, "membership", [result_row()])
    folder = tmp_path / "parts" / "results"
    (folder / ".step=20-audit=membership.parquet.tmp").write_bytes(b"PAR1 half")
    paths = merge_parts(tmp_path)
    assert sorted(paths) == ["memorization", "results", "scores"]
    assert read_table(tmp_path, "results").num_rows == 1
    assert read_table(tmp_path, "memorization").num_rows == 0


def test_runs_merge_into_one_table(tmp_path: Path) -> None:
    for run in ("b", "a"):
        write_part(tmp_path / run, "results", 10, "membership", [result_row(run=run)])
        merge_parts(tmp_path / run)
    merge_runs([tmp_path / "b", tmp_path / "a"], tmp_path / "study")
    assert read_table(tmp_path / "study", "results").column("run").to_pylist() == ["a", "b"]


def test_who_is_a_member_only_the_owner_reads(tmp_path: Path) -> None:
    write_part(tmp_path, "results", 10, "membership", [result_row()])
    write_part(tmp_path, "scores", 10, "membership", [score_row("a", 0.5)])
    merge_parts(tmp_path)
    merge_runs([tmp_path], tmp_path / "study")
    for path in tmp_path.rglob("*.parquet"):
        closed = "record" in pq.read_schema(path).names
        assert closed == ("results" not in str(path.relative_to(tmp_path)))
        assert (stat.S_IMODE(path.stat().st_mode) == 0o600) == closed, path


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scores.parquet"
    write_table(table_from_rows("scores", [score_row("a", 1.0)]), path)
    before = path.read_bytes()

    def no_space(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_table(table_from_rows("scores", [score_row("b", 2.0)]), path)
    assert path.read_bytes() == before


def test_missing_and_foreign_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="results.parquet: no such table"):
        read_table(tmp_path, "results")
    pq.write_table(pa.table({"run": ["a"], "auc": [0.5]}), tmp_path / "results.parquet")
    with pytest.raises(UserError, match="auc"):
        read_table(tmp_path, "results")


def test_params_refuse_what_json_cannot_hold() -> None:
    assert json.loads(params_json({"k": 0.2})) == {"k": 0.2}
    with pytest.raises(ValueError, match="JSON"):
        params_json({"k": float("nan")})
