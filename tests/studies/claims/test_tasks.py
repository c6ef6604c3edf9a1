"""Tasks are compared on as many records of the same lengths."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from studies.claims.factor_statements import factor_statements
from studies.claims.figures import LOSS
from studies.comparisons import AttackScores
from tests.studies.claims.tables import REPLICATES, study


def test_tasks_are_compared_at_equal_lengths() -> None:
    """Task a leaks; b seems to leak as much only through its longer responses."""
    rng = np.random.default_rng(1)
    names = [f"{side}{i}" for side in "mn" for i in range(240)]
    tasks = pd.Series([("a", "b")[i % 2] for i in range(480)], index=names)
    long = rng.random(480) < np.where(tasks == "a", 0.2, 0.8)
    lengths = pd.Series(np.where(long, 40, 10), index=names)
    inside = np.arange(480) < 240
    scores = {}
    for r in REPLICATES:
        for role, sign in (("student", 1.0), ("counterfactual", -1.0)):
            leak = np.where(long, 1.2, 0.0) + np.where(tasks == "a", 0.8, 0.0)
            values = pd.Series(rng.normal(size=480) + sign * leak * inside, index=names)
            scores[f"{role}-kd-r{r}"] = {LOSS: AttackScores(values[inside], values[~inside])}
    frames = (
        pd.DataFrame({"record": names, "task": tasks.to_numpy()}),
        pd.DataFrame({"record": names, "n_tokens": lengths.to_numpy()}),
    )
    data = study({("kd", r): 0.7 + 0.01 * r for r in REPLICATES})
    data = dataclasses.replace(data, scores=scores, record_rows=frames)
    (task,) = [one for one in factor_statements(data) if "by task" in one.measure]
    assert task.outcome.verdict == "confirmed"
    assert task.outcome.what == "largest difference of two levels, a − b"
    # The shift of 2 x 0.8 standard deviations between the sides at equal lengths: with half of the
    # responses long, A is 0.80 for a and 0.67 for b, give or take the sample.
    long_short = [stats.norm.cdf(x / 2**0.5) for x in (2.0, 0.8, 1.2, 0.0)]
    expected = (long_short[0] + long_short[1] - long_short[2] - long_short[3]) / 2
    assert task.outcome.effect == pytest.approx(expected, abs=0.05)
