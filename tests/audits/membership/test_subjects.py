"""Rows about subjects, and the worst task, from planted scores."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from audits.membership.attacks.loss import Loss
from audits.membership.attacks.zlib import Zlib
from audits.membership.evaluation import Opposition, Side, evaluate
from audits.membership.metrics import ScoredRecords, attack_rows
from audits.membership.worst_task import WORST_TASK, worst_task_rows
from audits.statistics import auroc
from common.keys import key
from tests.audits.membership.conftest import random_statistics, records, view_of


def scored(
    population: str, seed: int, n: int = 60, tasks: int = 2, size: int = 3, draws: int = 0
) -> ScoredRecords:
    """Records of subjects of some size, the last third of them without one."""
    rng = np.random.default_rng(seed)
    subjects = [f"s{i // size}" if i < 2 * n // 3 else None for i in range(n)]
    clusters = [i // size if i < 2 * n // 3 else i for i in range(n)]
    drawn = rng.normal(0, 1, (n, max(draws, 1)))
    return ScoredRecords(
        population,
        [f"{population}-{i}" for i in range(n)],
        [f"task {i % tasks}" for i in range(n)],
        np.array(clusters, dtype=np.int64) + 10**6 * seed,
        drawn.mean(1),
        draws=drawn if draws else None,
        subjects=subjects,
    )


def means(side: ScoredRecords, task: str | None = None) -> list[float]:
    by_name: dict[str, list[float]] = {}
    for place, record in enumerate(side.record_ids):
        if task in (None, side.tasks[place]):
            name = side.subjects[place] or record
            by_name.setdefault(name, []).append(side.scores[place])
    return [sum(own) / len(own) for own in by_name.values()]


@pytest.mark.parametrize("draws", [0, 4])
def test_every_row_has_a_twin_on_the_means_of_subjects(draws: int) -> None:
    sides = scored("private", 1, draws=draws), scored("held_out", 2, draws=draws)
    rows = attack_rows("loss", {"k": 1}, *sides, fprs=[0.1])
    twins = [row for row in rows if row.params == {"k": 1, "unit": "subject"}]
    assert [(row.task, row.metric) for row in twins] == [
        (row.task, row.metric) for row in rows if row.params == {"k": 1}
    ]
    for row in twins:
        if row.metric == "auroc":
            ours, theirs = (means(side, row.task) for side in sides)
            labels = [1] * len(ours) + [0] * len(theirs)
            assert row.value == pytest.approx(roc_auc_score(labels, ours + theirs))
            assert (row.n_members, row.n_nonmembers) == (len(ours), len(theirs))
            if not draws:  # a subject is one unit, however many records it has
                assert row.lower == pytest.approx(auroc(ours, theirs).lower)


def test_without_subjects_there_are_no_twins() -> None:
    sides = [replace(scored(name, seed), subjects=()) for name, seed in (("a", 1), ("b", 2))]
    assert {str(row.params) for row in attack_rows("loss", {}, *sides)} == {"{}"}


def test_a_task_of_one_subject_has_no_row_about_subjects() -> None:
    ours, theirs = scored("a", 1), scored("b", 2)
    ours = replace(ours, tasks=["alone"] * 3 + ["other"] * 57)
    theirs = replace(theirs, tasks=["alone"] * 9 + ["other"] * 51)
    rows = attack_rows("loss", {}, ours, theirs)
    told = {(row.task, "unit" in row.params) for row in rows}
    assert told == {(t, u) for t in (None, "alone", "other") for u in (True, False)} - {
        ("alone", True)
    }


def test_an_audit_tells_of_subjects_too() -> None:
    sides = {}
    for name, seed in (("external", 0), ("held_out", 1)):
        named = [replace(one, subject=f"{name}{i // 2}") for i, one in enumerate(records())]
        view = view_of(named, random_statistics(seed=seed))
        sides[name] = Side(view, [f"{name}{i // 2}" for i in range(len(named))])
    pair = Opposition("external", "held_out", fair_coins=False)
    found = evaluate([Loss(), Zlib()], [0.1], sides, [pair], {}, named=True)
    wide = [row for row in found.results if row.metric in ("auroc", "max_t") and row.task is None]
    told = [(row.name, row.n_members) for row in wide if row.params.get("unit") == "subject"]
    assert told == [(name, 4) for name in ("loss", "zlib", "any_attack")]
    own = next(row for row in wide if row.name == "loss" and not row.params)
    assert found.curves["membership/external/loss/auroc"] == own.value


def test_the_worst_task_is_named_by_one_half_and_measured_by_the_other() -> None:
    ours, theirs = scored("private", 1, 600, 3), scored("held_out", 2, 600, 3)
    leaking = np.array([task == "task 2" for task in ours.tasks])
    ours = replace(ours, scores=ours.scores + 1.5 * leaking)
    row, twin = worst_task_rows("loss", {}, ours, theirs)
    sides = []
    for side in (ours, theirs):
        half = np.array([key("worst task", int(name)) & 1 for name in side.clusters])
        sides.append(side.scores[(half == 1) & np.array([t == "task 2" for t in side.tasks])])
    labels = [1] * len(sides[0]) + [0] * len(sides[1])
    assert (row.task, row.metric, row.n_members) == ("task 2", WORST_TASK, len(sides[0]))
    assert row.value == pytest.approx(roc_auc_score(labels, np.concatenate(sides)))
    assert (twin.task, twin.params) == ("task 2", {"unit": "subject"})


def test_no_task_is_the_worst_by_chance() -> None:
    """The largest of eight AUROCs without a leak is above 0.5; that of the named task is not."""
    values = []
    for seed in range(30):
        sides = (scored(name, 2 * seed + i, 480, 8, 1) for i, name in enumerate("ab"))
        values += [row.value for row in worst_task_rows("loss", {}, *sides) if not row.params]
    assert len(values) == 30
    assert np.mean(values) == pytest.approx(0.5, abs=3 * np.std(values) / 30**0.5)
    assert np.std(values) / 30**0.5 < 0.02


def test_too_few_clusters_name_no_task() -> None:
    assert not worst_task_rows("loss", {}, scored("a", 1, 30), scored("b", 2, 30))
    assert not worst_task_rows("loss", {}, scored("a", 1, 600, 1), scored("b", 2, 600, 1))
