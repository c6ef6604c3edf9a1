"""Figures of tasks at equal numbers and lengths, against plain loops."""

import numpy as np
import pandas as pd
import pytest

from audits.results import table_from_rows
from studies.compare.comparisons import attack_scores
from studies.compare.task_rows import task_rows
from tests.studies.claims.tables import cell, row

TASKS = ("open_qa", "summarization")
ROLES = ("student", "counterfactual", "control")
SIDES = ("private", "held_out")
RECORDS = 90
ENDING = "_at_equal_lengths"
CELLS = [cell(role, None if role == "control" else "kd", 1) for role in ROLES]


def records(n: int) -> pd.DataFrame:
    """Records of both sides: summarization is the longer and the rarer task."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"population": np.repeat(SIDES, n)})
    rare = rng.random(2 * n) < 0.35
    frame["task"] = np.where(rare, TASKS[1], TASKS[0])
    frame["n_tokens"] = rng.integers(5, 25, 2 * n) + 8 * rare
    return frame.assign(record=[f"r{i}" for i in range(2 * n)])


def tables(n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables scores and memorization of three runs."""
    rng = np.random.default_rng(1)
    scores, memorization = [], []
    for one, leak in zip(CELLS, (1.5, -1.5, 0.0), strict=True):
        frame = records(n).assign(run=one.alias, step=3)
        inside = frame["population"] == "private"
        values = rng.normal(size=2 * n) + leak * inside
        scores.append(frame.assign(name="loss", params="{}", block=None, score=values))
        share = np.clip(rng.uniform(0, 0.6, 2 * n) + 0.2 * leak * inside, 0, 1)
        own = frame.assign(name="token_accuracy", params='{"tokens": 32}', value=share)
        memorization.append(own)
    return pd.concat(scores, ignore_index=True), pd.concat(memorization, ignore_index=True)


def found_rows(n: int) -> list[dict[str, object]]:
    scores, memorization = tables(n)
    results = table_from_rows(
        "results", [row(one.alias, "loss", "auroc", 0.5, step=3) for one in CELLS]
    )
    return list(task_rows(CELLS, results, scores, attack_scores(scores), memorization))


@pytest.fixture(scope="module")
def found() -> list[dict[str, object]]:
    return found_rows(RECORDS)


def naive_weights(frame: pd.DataFrame, cuts: list[float]) -> list[float]:
    places = [
        (task, sum(length > cut for cut in cuts))
        for task, length in zip(frame["task"], frame["n_tokens"], strict=True)
    ]
    weights = []
    for _, number in places:
        fewest = min(places.count((task, number)) for task in TASKS)
        weights.append(float(fewest))
    return [weight / places.count(place) for weight, place in zip(weights, places, strict=True)]


def weighed(n: int) -> pd.DataFrame:
    frame = records(n)
    cuts = np.percentile(frame["n_tokens"], [25, 50, 75]).tolist()
    parts = [frame[frame["population"] == side] for side in SIDES]
    return pd.concat([part.assign(weight=naive_weights(part, cuts)) for part in parts])


def naive_auroc(values: pd.Series, frame: pd.DataFrame, task: str) -> float:
    chosen = frame[frame["task"] == task]
    sides = [chosen[chosen["population"] == side] for side in SIDES]
    won = total = 0.0
    for a, w in zip(sides[0]["record"], sides[0]["weight"], strict=True):
        for b, v in zip(sides[1]["record"], sides[1]["weight"], strict=True):
            won += w * v * (values[a] > values[b])
            total += w * v
    return won / total


def naive_gap(values: pd.Series, frame: pd.DataFrame, task: str) -> float:
    means = []
    for side in SIDES:
        own = frame[(frame["task"] == task) & (frame["population"] == side)]
        means.append(np.average(values[own["record"]], weights=own["weight"]))
    return float(means[0] - means[1])


def by_run(table: pd.DataFrame, column: str) -> dict[str, pd.Series]:
    return {str(run): own.set_index("record")[column] for run, own in table.groupby("run")}


def test_figures_equal_plain_loops(found: list[dict[str, object]]) -> None:
    frame = weighed(RECORDS)
    every = zip(tables(RECORDS), ("score", "value"), strict=True)
    scores, memorization = (by_run(*one) for one in every)
    student, counterfactual, control = (one.alias for one in CELLS)
    for task in TASKS:
        areas = {run: naive_auroc(values, frame, task) for run, values in scores.items()}
        gaps = {run: naive_gap(values, frame, task) for run, values in memorization.items()}
        expected = {("auroc", run, None): area for run, area in areas.items()}
        expected |= {("token_accuracy_gap", run, None): one for run, one in gaps.items()}
        swap = (areas[student] + 1 - areas[counterfactual]) / 2
        expected["swap_estimate", student, counterfactual] = swap
        for other in (counterfactual, control):
            excess = gaps[student] - gaps[other]
            expected["token_accuracy_gap_excess", student, other] = excess
        rows = {
            (str(one["metric"]).removesuffix(ENDING), one["run"], one["run_b"]): one["value"]
            for one in found
            if one["task"] == task and not str(one["metric"]).startswith("response")
        }
        assert rows == pytest.approx(expected)


def test_counts_and_lengths_are_equal_and_intervals_hold_the_value(
    found: list[dict[str, object]],
) -> None:
    assert len(table_from_rows("results", found)) == len(found)
    rows, frame = pd.DataFrame(found), weighed(RECORDS)
    matched = rows[rows["metric"].str.endswith(ENDING)]
    for side, count in zip(SIDES, ("n_members", "n_nonmembers"), strict=True):
        per_task = frame[frame["population"] == side].groupby("task")["weight"].sum()
        assert set(matched[count]) == {round(per_task[TASKS[0]])} == {round(per_task[TASKS[1]])}
    figures = matched[~matched["metric"].str.startswith("response")]
    assert (figures["lower"] < figures["value"]).all()
    assert (figures["value"] < figures["upper"]).all()
    for task in TASKS:
        own = frame[frame["task"] == task]
        lengths = rows[(rows["task"] == task) & (rows["run"] == CELLS[0].alias)]
        lengths = lengths.set_index("metric")["value"]
        assert lengths["response_tokens"] == pytest.approx(own["n_tokens"].mean())
        mean = np.average(own["n_tokens"], weights=own["weight"])
        assert lengths["response_tokens_at_equal_lengths"] == pytest.approx(mean)


def test_few_records_give_counts_and_no_value() -> None:
    figures = [one for one in found_rows(14) if one["metric"] == "auroc" + ENDING]
    assert len(figures) == len(TASKS) * len(CELLS)
    assert not any("value" in one for one in figures)
    assert all(one["n_members"] < 10 for one in figures)
