"""Tasks are compared on as many records of the same lengths."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from audits.results import RESULTS, table_from_rows
from studies.claims.factors_matter import factor_statements
from studies.claims.study import ClaimsData
from studies.claims.verdict import Statement
from studies.compare.comparisons import attack_scores
from studies.compare.task_rows import task_rows
from tests.studies.claims.tables import REPLICATES, cell, row, study


def planted(replicates: Sequence[int], n: int = 240) -> ClaimsData:
    """Task a leaks; b seems to leak as much only through its longer responses."""
    rng = np.random.default_rng(1)
    sides = np.repeat(["private", "held_out"], n)
    records = pd.DataFrame({"record": [f"r{i}" for i in range(2 * n)], "population": sides})
    records["task"] = ["a", "b"] * n
    long = rng.random(2 * n) < np.where(records["task"] == "a", 0.2, 0.8)
    leak = np.where(long, 1.2, 0.0) + np.where(records["task"] == "a", 0.8, 0.0)
    leak *= records["population"] == "private"
    cells, scores, lengths = [], [], []
    for r in replicates:
        for role, sign in (("student", 1.0), ("counterfactual", -1.0)):
            cells.append(cell(role, "kd", r))
            rows = records.assign(run=cells[-1].alias, step=3, name="loss", params="{}", block=None)
            scores.append(rows.assign(score=rng.normal(size=2 * n) + sign * leak))
            lengths.append(rows.assign(n_tokens=np.where(long, 40, 10), value=0.5))
    every = pd.concat(scores, ignore_index=True)
    results = table_from_rows("results", [row(one.alias, "loss", "auroc", 0.5) for one in cells])
    found = task_rows(cells, results, every, attack_scores(every), pd.concat(lengths))
    rows = [{**dict.fromkeys(RESULTS.names), **one} for one in found]
    return study({("kd", r): 0.7 + 0.01 * r for r in replicates}, more=rows, coins=True)


def by_task(data: ClaimsData) -> Statement:
    (statement,) = [one for one in factor_statements(data) if "by task" in one.measure]
    return statement


def test_tasks_are_compared_at_equal_lengths() -> None:
    task = by_task(planted(REPLICATES))
    assert task.outcome.verdict == "confirmed"
    assert task.outcome.what == "largest difference of two levels, a − b"
    # The shift of 2 x 0.8 standard deviations between the sides at equal lengths: with half of the
    # responses long, A is 0.80 for a and 0.67 for b, give or take the sample.
    long_short = [stats.norm.cdf(x / 2**0.5) for x in (2.0, 0.8, 1.2, 0.0)]
    expected = (long_short[0] + long_short[1] - long_short[2] - long_short[3]) / 2
    assert task.outcome.effect == pytest.approx(expected, abs=0.05)


def test_one_replicate_decides_nothing_about_tasks_and_shows_its_figures() -> None:
    task = by_task(planted((3,)))
    assert task.decides
    assert (task.outcome.verdict, task.outcome.effect) == ("undecided", None)
    shown = dict(one.split(": ") for one in task.outcome.details)
    assert set(shown) == {"a", "b"}
    assert float(shown["a"]) > float(shown["b"]) + 0.05


def test_too_few_records_of_the_same_lengths_are_named() -> None:
    task = by_task(planted(REPLICATES, n=36))
    assert task.outcome.verdict == "undecided"
    assert "records a side and task have comparable lengths" in task.outcome.why
