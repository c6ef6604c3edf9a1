"""A row is checked where it is made, and adds to a run's columns what it knows."""

import math

import pytest

from audits.results import table_from_rows
from audits.rows import Audit, ResultRow, banded, bounds, told_tasks
from audits.statistics.means import UtilityEstimate

RUN = {"run": "r", "role": "student", "step": 7, "audit": Audit.exposure}


def test_a_row_names_every_column_of_the_table_but_those_of_a_run() -> None:
    row = ResultRow(name="loss", metric="tpr_at_fpr_1e-05", value=0.5, params={"k": 1})
    table = table_from_rows("results", [{**RUN, **row}])
    assert {column for column in table.schema.names if column not in row} == {
        *("run", "role", "family", "size", "technique", "seed", "step", "audit", "run_b")
    }
    (written,) = table.to_pylist()
    assert (written["audit"], written["params"], written["value"]) == ("exposure", '{"k": 1}', 0.5)
    assert len(row) == len(dict(row))
    with pytest.raises(KeyError):
        row["run"]


def test_an_audit_of_its_own_stands_in_the_place_of_the_writers() -> None:
    row = ResultRow(name="exposure", metric="exposure", audit=Audit.memorization)
    assert table_from_rows("results", [{**RUN, **row}])["audit"].to_pylist() == ["memorization"]


@pytest.mark.parametrize("metric", ["", "AUROC", "a b", "tpr@1", "_x"])
def test_what_is_no_metric_is_refused(metric: str) -> None:
    with pytest.raises(ValueError, match="is no metric"):
        ResultRow(name="loss", metric=metric)


@pytest.mark.parametrize("column", ["value", "lower", "upper", "p_value"])
def test_not_a_number_is_refused(column: str) -> None:
    with pytest.raises(ValueError, match=f"loss auroc: {column} is not a number"):
        ResultRow(name="loss", metric="auroc", **{column: math.nan})
    assert ResultRow(name="loss", metric="auroc", **{column: math.inf})[column] == math.inf


def test_bounds_hold_what_was_measured() -> None:
    assert bounds(None) == {}
    assert bounds(UtilityEstimate(0.5, None, math.nan, 3)) == {
        "value": 0.5,
        "lower": None,
        "upper": None,
    }
    row = ResultRow(name="loss", metric="auroc", value=0.5, upper=0.75)
    assert banded("a", row) == {"a": 0.5, "~bounds/a/upper": 0.75}


def test_a_task_is_told_where_each_side_has_two_records_of_it() -> None:
    ours, theirs = ["b", "b", "", "", "own name", "own name", "a"], ["", "b", "b", "b", "own name"]
    assert told_tasks(ours, theirs) == ["b"]
    assert told_tasks(ours) == ["b", "own name"]
    assert told_tasks([""], [""]) == []
