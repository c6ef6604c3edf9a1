"""Diagnostics of a population become rows of the results table."""

import numpy as np
import pytest

from audits.membership.metrics import ScoredRecords, diagnostic_rows
from audits.results import table_from_rows

IDENTITY = {"run": "r", "role": "teacher", "step": 3, "audit": "membership"}


@pytest.mark.parametrize(("side", "shifted"), [("n_members", True), ("n_nonmembers", None)])
def test_rows_hold_figures_and_null_for_nan(side: str, shifted: bool | None) -> None:
    scored = ScoredRecords(
        "held_out",
        ["a", "b"],
        ["open_qa", "closed_qa"],
        np.array([1, 2]),
        np.array([0.5, 0.25]),
        skipped=4,
        diagnostics={"reliability": float("nan"), "nll_rise": 0.375},
    )
    rows = diagnostic_rows("mope", {"draws": 5}, side, scored, shifted)
    table = table_from_rows("results", [{**IDENTITY, **row} for row in rows]).to_pylist()
    assert [(row["metric"], row["value"]) for row in table] == [
        ("reliability", None),
        ("nll_rise", 0.375),
    ]
    for row in table:
        assert (row["population"], row["task"], row["name"]) == ("held_out", None, "mope")
        assert (row["params"], row["skipped"], row[side]) == ('{"draws": 5}', 4, 2)
        assert (row["upper"], row["shifted"]) == (None, shifted)
    assert diagnostic_rows("loss", {}, side, scored.of_task("open_qa")) == []
