"""Tasks are compared on as many records of the same lengths."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from studies.claims.factor_statements import factor_statements
from studies.claims.study import ClaimsData
from studies.claims.verdict import Statement
from studies.compare.comparisons import AttackScores
from studies.compare.primary_attack import LOSS
from tests.studies.claims.tables import REPLICATES, study


def planted(replicates: Sequence[int], n: int = 240) -> ClaimsData:
    """Task a leaks; b seems to leak as much only through its longer responses."""
    rng = np.random.default_rng(1)
    names = [f"{side}{i}" for side in "mn" for i in range(n)]
    tasks = pd.Series([("a", "b")[i % 2] for i in range(2 * n)], index=names)
    long = rng.random(2 * n) < np.where(tasks == "a", 0.2, 0.8)
    lengths = pd.Series(np.where(long, 40, 10), index=names)
    inside = np.arange(2 * n) < n
    scores = {}
    for r in replicates:
        for role, sign in (("student", 1.0), ("counterfactual", -1.0)):
            leak = np.where(long, 1.2, 0.0) + np.where(tasks == "a", 0.8, 0.0)
            values = pd.Series(rng.normal(size=2 * n) + sign * leak * inside, index=names)
            scores[f"{role}-kd-r{r}"] = {LOSS: AttackScores(values[inside], values[~inside])}
    frames = (
        pd.DataFrame({"record": names, "task": tasks.to_numpy()}),
        pd.DataFrame({"record": names, "n_tokens": lengths.to_numpy()}),
    )
    data = study({("kd", r): 0.7 + 0.01 * r for r in replicates})
    return dataclasses.replace(data, scores=scores, record_rows=frames)


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
