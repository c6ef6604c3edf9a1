"""Over the records of one replicate, near-duplicates count once."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from audits.statistics.means import ratio_interval
from datamodules.manifest import write_manifest
from datamodules.records import InstructionRecord
from datamodules.splits import Placement
from studies.claims.every_technique_leaks import every_technique_leaks
from studies.claims.figures import StudyFigures
from studies.claims.records import membership_sample, memorization_sample
from studies.claims.verdict import MEMORIZATION_MARGIN
from studies.compare.comparisons import AttackScores
from studies.compare.memorization import Accuracies
from studies.compare.primary_attack import LOSS
from tests.studies.claims.tables import cell, study

PAIR = (cell("student", "kd", 1), cell("counterfactual", "kd", 1))


def figures() -> StudyFigures:
    return study({("kd", 1): 0.7}).figures


def scores(copies: int) -> dict[str, dict[tuple[str, str], AttackScores]]:
    """30 + 40 records, each as often as asked for."""
    rng = np.random.default_rng(4)
    found = {}
    for one, leak in zip(PAIR, (1.0, -1.0), strict=True):
        sides = [rng.normal(size=30) + leak, rng.normal(size=40)]
        named = [
            pd.Series(
                np.tile(side, copies),
                index=[f"{name}{i}-{c}" for c in range(copies) for i in range(len(side))],
            )
            for name, side in zip("mn", sides, strict=True)
        ]
        found[one.alias] = {LOSS: AttackScores(*named)}
    return found


def test_a_record_written_twice_is_one_unit_of_membership(tmp_path: Path) -> None:
    once = membership_sample(figures(), {"kd": [PAIR]}, scores(1))
    twice = scores(2)
    student = dataclasses.replace(PAIR[0], run_dir=str(tmp_path))
    placements = [
        Placement(
            InstructionRecord(record, "", "", record, "open_qa", ""),
            **{"content": record, "split": split, "role": "audit", "coin": None, "part": None},
            cluster=record.partition("-")[0],
        )
        for split, side in (("private", "members"), ("held_out", "nonmembers"))
        for record in getattr(twice[PAIR[0].alias][LOSS], side).index
    ]
    loose = membership_sample(figures(), {"kd": [PAIR]}, twice)
    write_manifest(placements, tmp_path / "private")
    clustered = membership_sample(figures(), {"kd": [(student, PAIR[1])]}, twice)
    assert once is not None
    assert loose is not None
    assert clustered is not None
    assert clustered[0].means == pytest.approx(once[0].means)
    assert clustered[0].covariance == pytest.approx(once[0].covariance)
    assert loose[0].covariance[0, 0] < 0.6 * once[0].covariance[0, 0]
    assert clustered[1] == "60 + 80 records"


def test_excess_of_the_gap_has_the_errors_of_both_sides_clusters() -> None:
    rng = np.random.default_rng(6)
    names = {side: [f"{side}{i}" for i in range(60)] for side in ("private", "held_out")}
    ids = {name: i // 3 for own in names.values() for i, name in enumerate(own)}
    ids |= {name: ids[name] + 100 for name in names["held_out"]}

    def accuracy(level: float) -> dict[str, pd.Series]:
        shared = {side: np.repeat(rng.normal(size=20), 3) * 0.1 for side in names}
        noise = {side: 0.02 * rng.normal(size=60) for side in names}
        return {side: pd.Series(level + shared[side] + noise[side], names[side]) for side in names}

    values = {PAIR[0].alias: accuracy(0.5), PAIR[1].alias: accuracy(0.3)}
    accuracies = Accuracies(PAIR, {"tokens": 32}, values, {}, dict.fromkeys(values, ids))
    found = memorization_sample({"kd": [PAIR]}, [accuracies])
    assert found is not None
    means, variances = [], []
    for side, own in names.items():
        excess = values[PAIR[0].alias][side] - values[PAIR[1].alias][side]
        reference = ratio_interval(excess, np.ones(60), [ids[name] for name in own])
        assert reference.upper is not None
        means.append(reference.value)
        variances.append(((reference.upper - reference.value) / stats.t.isf(0.025, 19)) ** 2)
    contrast = found[0].contrast({"kd": 1.0})
    assert contrast.value == pytest.approx(means[0] - means[1])
    floor = 2 * (stats.norm.isf(0.05) / 20) ** 2
    assert contrast.error == pytest.approx((sum(variances) + floor) ** 0.5)
    # A student that is the better writer of both sides by 0.2 has memorized nothing.
    assert means[0] > 0.1
    assert abs(contrast.value) < 0.1
    other = Accuracies(PAIR, {"tokens": 16}, values, {}, dict.fromkeys(values, ids))
    assert memorization_sample({"kd": [PAIR]}, [other]) is None


@pytest.mark.parametrize(("share", "jump"), [(0.01, 1.0), (0.02, 0.5)])
def test_a_few_records_written_whole_are_seldom_called_less_than_the_margin(
    share: float, jump: float
) -> None:
    """True excess: exactly the margin. By the spread of the records alone 15 to 18% are refuted."""
    rng = np.random.default_rng(8)
    names = {"private": [f"m{i}" for i in range(170)], "held_out": [f"n{i}" for i in range(189)]}
    refuted, draws = 0, 300
    for _ in range(draws):
        ours = {
            side: pd.Series(0.05 + 0.01 * rng.normal(size=len(own)), own)
            for side, own in names.items()
        }
        ours["private"] += jump * (rng.random(170) < share)
        theirs = {side: pd.Series(0.05, own) for side, own in names.items()}
        values = {PAIR[0].alias: ours, PAIR[1].alias: theirs}
        accuracies = Accuracies(PAIR, {"tokens": 32}, values, {}, dict.fromkeys(values))
        found = memorization_sample({"kd": [PAIR]}, [accuracies])
        assert found is not None
        refuted += every_technique_leaks(found[0], 0.0, MEMORIZATION_MARGIN).verdict == "refuted"
    assert refuted / draws <= 0.05 + 2 * (0.05 * 0.95 / draws) ** 0.5


def test_records_of_which_none_differs_leave_a_bound() -> None:
    """One-sided and about 2.7 / n, where Clopper and Pearson's for a rate of 0 is 3 / n."""
    names = {"private": [f"m{i}" for i in range(200)], "held_out": [f"n{i}" for i in range(9999)]}
    same = {side: pd.Series(0.05, own) for side, own in names.items()}
    values = {one.alias: same for one in PAIR}
    accuracies = Accuracies(PAIR, {"tokens": 32}, values, {}, dict.fromkeys(values))
    found = memorization_sample({"kd": [PAIR]}, [accuracies])
    assert found is not None
    upper = found[0].contrast({"kd": 1.0}).bounds()[1]
    assert 0.9 * stats.norm.isf(0.05) ** 2 / 200 < upper < stats.beta.ppf(0.95, 1, 200)
