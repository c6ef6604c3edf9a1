"""Rows of the results and scores tables from planted scores."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from audits.membership.metrics import ScoredRecords, area, attack_rows
from audits.membership.roc import roc_figure, roc_points
from audits.membership.score_rows import ScoreRows
from audits.results import table_from_rows
from audits.statistics import balanced_accuracy, certified_tpr
from audits.statistics.verdict import TAIL_METRIC

TASKS = ["open_qa", "closed_qa"]
EQUIVALENT = "epsilon_equivalent_at_fpr_0.1"
OF_ALL_TASKS = (EQUIVALENT, TAIL_METRIC)


def scored(population: str, shift: float, n: int, seed: int, skipped: int = 0) -> ScoredRecords:
    scores = np.random.default_rng(seed).normal(shift, 1.0, n)
    return ScoredRecords(
        population,
        [f"{population}-{i}" for i in range(n)],
        [TASKS[i % 2] for i in range(n)],
        np.arange(n, dtype=np.int64) + 10**6 * seed,
        scores,
        skipped,
    )


def test_rows_hold_the_rank_statistic_of_each_task() -> None:
    members, nonmembers = (
        scored("private", 0.8, 60, 1, skipped=2),
        scored("held_out", 0.0, 50, 2, 3),
    )
    rows = attack_rows("loss", {}, members, nonmembers, fprs=[0.1])
    assert [(row["task"], row["metric"]) for row in rows] == [
        (task, metric)
        for task in (None, "closed_qa", "open_qa")
        for metric in ("auroc", "tpr_at_fpr_0.1", "balanced_accuracy", *OF_ALL_TASKS)
        if task is None or metric not in OF_ALL_TASKS
    ]
    for row in rows:
        keep = [
            [task in (row["task"],) or row["task"] is None for task in side.tasks]
            for side in (members, nonmembers)
        ]
        a, b = members.scores[keep[0]], nonmembers.scores[keep[1]]
        halves = 2 if row["metric"] == "balanced_accuracy" else 1
        counted = (row["n_members"], row["n_nonmembers"])
        assert counted == pytest.approx((len(a) / halves, len(b) / halves), abs=9 * (halves - 1))
        if row["metric"] == "auroc":
            labels = [1] * len(a) + [0] * len(b)
            assert row["value"] == pytest.approx(roc_auc_score(labels, np.concatenate([a, b])))
            assert float(str(row["lower"])) < float(str(row["value"])) < float(str(row["upper"]))
    assert [row["skipped"] for row in rows] == [5] * 5 + [0] * 6


def test_scores_far_from_one_keep_their_order() -> None:
    """Members 9 and 5, others 9 and 5: a sigmoid in float32 would make them all one."""
    sides = [
        ScoredRecords(name, ["a", "b"], ["open_qa"] * 2, np.arange(2), np.array([9.0, 5.0]))
        for name in ("private", "held_out")
    ]
    assert area(*sides).value == 0.5
    higher = replace(sides[0], scores=np.array([32.0, 31.0]))
    assert area(higher, replace(sides[1], scores=np.array([30.0, 31.5]))).value == 0.75


def test_balanced_accuracy_and_epsilon_are_those_of_their_functions() -> None:
    members, nonmembers = scored("private", 1.2, 60, 1), scored("held_out", 0.0, 50, 2)
    rows = {str(row["metric"]): row for row in attack_rows("loss", {}, members, nonmembers)[:6]}
    ids = {"member_clusters": members.clusters, "nonmember_clusters": nonmembers.clusters}
    accuracy = balanced_accuracy(members.scores, nonmembers.scores, **ids)
    found = rows["balanced_accuracy"]
    assert (found["value"], found["lower"]) == (accuracy.value, accuracy.lower)
    assert found["n_members"] == accuracy.n_members
    threshold = np.sort(nonmembers.scores)[::-1][5]
    tpr, fpr = np.mean(members.scores > threshold), np.mean(nonmembers.scores > threshold)
    assert rows[EQUIVALENT]["value"] == pytest.approx(
        max(np.log(tpr / fpr), np.log((1 - fpr) / (1 - tpr)))
    )
    assert rows["epsilon_equivalent_at_fpr_0.01"]["value"] is None
    small = attack_rows("loss", {}, scored("a", 1, 19, 1), nonmembers)
    assert all(row.get("value") is None for row in small if row["metric"] == "balanced_accuracy")


def test_the_certified_tail_stands_beside_the_auroc_at_any_fprs_but_not_for_random_draws() -> None:
    sides = [scored("private", 1.2, 900, 1), scored("held_out", 0.0, 700, 2)]
    paired = [replace(side, clusters=side.clusters // 2) for side in sides]
    for chosen in (sides, paired):
        rows = attack_rows("loss", {}, *chosen, fprs=[0.1])
        (row,) = [row for row in rows if row["metric"] == TAIL_METRIC]
        ids = {
            "member_clusters": chosen[0].clusters,
            "nonmember_clusters": chosen[1].clusters,
        }
        bounds = certified_tpr(sides[0].scores, sides[1].scores, 0.01, **ids)
        assert (row["lower"], row["upper"]) == (bounds.lower, bounds.upper)
        assert row["task"] is None
    drawn = [replace(side, draws=np.stack([side.scores] * 2, axis=1)) for side in sides]
    assert all(row["metric"] != TAIL_METRIC for row in attack_rows("mope", {}, *drawn))


TIED, APART = [1.0] * 20, [2.0] * 2 + [1.0] * 18


@pytest.mark.parametrize(
    ("members", "nonmembers", "expected"),
    [
        ([3.0] * 20, TIED, np.inf),
        ([3.0] * 10 + [1.0] * 10, TIED, np.inf),
        ([3.0] * 20, APART, np.inf),
        ([3.0] * 10 + [1.0] * 10, APART, np.log(0.5 / 0.1)),
        (TIED, TIED, 0.0),
    ],
)
def test_an_infinite_equivalent_epsilon_is_no_missing_one(
    members: list[float], nonmembers: list[float], expected: float
) -> None:
    """The threshold is 1, which no tied non-member and two of the others exceed."""
    sides = [
        replace(scored(name, 0.0, 20, seed), scores=np.array(scores))
        for name, scores, seed in (("private", members, 1), ("held_out", nonmembers, 2))
    ]
    rows = attack_rows("loss", {}, *sides, fprs=[0.1, 0.01])
    identity = {"run": "a", "role": "teacher", "step": 1, "audit": "membership"}
    table = table_from_rows("results", [{**identity, **row} for row in rows]).to_pylist()
    found = {row["metric"]: row["value"] for row in table if row["task"] is None}
    assert found[EQUIVALENT] == pytest.approx(expected)
    assert found["tpr_at_fpr_0.01"] is None
    assert found["epsilon_equivalent_at_fpr_0.01"] is None


def test_records_without_a_task_stand_under_none() -> None:
    sides = [
        replace(scored(name, 0, 20, seed), tasks=[""] * 14 + ["own name"] * 5 + ["rare"])
        for name, seed in (("private", 1), ("held_out", 2))
    ]
    assert {row.task for row in attack_rows("loss", {}, *sides)} == {None, "own name"}
    rows = ScoreRows()
    rows.add("loss", {}, sides[0])
    assert [row["task"] for row in rows] == [None] * 14 + ["own name"] * 5 + ["rare"]


def test_what_is_not_measurable_is_null() -> None:
    rows = attack_rows(
        "loss", {}, scored("private", 1, 30, 1), scored("held_out", 0, 30, 2), [0.01]
    )
    rare = [row for row in rows if row["metric"] == "tpr_at_fpr_0.01"]
    assert [row["value"] for row in rare] == [None] * 3
    alone = attack_rows("loss", {}, scored("private", 1, 1, 1), scored("held_out", 0, 30, 2))
    assert all(row.get("value") is None for row in alone)
    assert alone[0]["n_members"] == 1


def test_an_inverted_attack_is_not_flipped() -> None:
    rows = attack_rows("loss", {}, scored("private", -2, 80, 1), scored("held_out", 0, 80, 2))
    assert float(str(rows[0]["upper"])) < 0.5


def test_every_record_has_one_score_row() -> None:
    one = scored("private", 0.0, 5, 1)
    rows = ScoreRows()
    assert not rows
    rows.add("min_k", {"k": 0.2}, one)
    rows.add("loss", {}, one)
    assert len(rows) == 10
    assert [(row["name"], row["record"], row["score"]) for row in rows] == [
        (attack, record, score)
        for attack in ("min_k", "loss")
        for record, score in zip(one.record_ids, one.scores.tolist(), strict=True)
    ]
    assert next(iter(rows)) in rows


def test_roc_points_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    members, nonmembers = rng.integers(2, 9, 70) * 1.0, rng.integers(0, 7, 40) * 1.0
    fpr, tpr = roc_points(members, nonmembers)
    expected = roc_curve(
        [1] * 70 + [0] * 40, np.concatenate([members, nonmembers]), drop_intermediate=False
    )
    np.testing.assert_allclose(fpr, expected[0])
    np.testing.assert_allclose(tpr, expected[1])


def test_the_figure_has_a_curve_for_each_attack() -> None:
    scores = {name: (np.arange(5.0), np.arange(4.0)) for name in ("loss", "zlib")}
    figure = roc_figure(scores, "private against held_out: n = 5 + 4")
    for panel in figure.axes:
        assert {line.get_label() for line in panel.lines} >= {"loss", "zlib"}
    assert figure.axes[1].get_xscale() == "log"


def test_every_interval_counts_clusters_not_records() -> None:
    one = [scored(side, shift, 60, seed) for side, shift, seed in (("a", 0.8, 1), ("b", 0.0, 2))]
    copies = [
        ScoredRecords(
            side.population,
            [f"{record}-{copy}" for copy in range(4) for record in side.record_ids],
            ["open_qa"] * 240,
            np.tile(side.clusters, 4),
            np.tile(side.scores, 4),
        )
        for side in one
    ]
    apart = [
        ScoredRecords(c.population, c.record_ids, c.tasks, np.arange(240) + 10**6 * i, c.scores)
        for i, c in enumerate(copies)
    ]
    together = attack_rows("loss", {}, *copies, fprs=[0.2])[:2]
    independent = attack_rows("loss", {}, *apart, fprs=[0.2])[:2]
    for narrow, wide in zip(independent, together, strict=True):
        assert narrow["value"] == wide["value"]
        width = [float(str(row["upper"])) - float(str(row["lower"])) for row in (narrow, wide)]
        assert width[1] > 1.4 * width[0]
