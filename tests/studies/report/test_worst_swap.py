"""The student that gives most away was picked: its interval pays for that."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from audits.statistics import swap_estimate
from audits.statistics.simultaneous import bonferroni_level
from studies.compare.comparisons import AttackScores
from studies.compare.primary_attack import LOSS, REFERENCE
from studies.report.sections.sure import worst_sentence, worst_swap
from studies.report.study_data import StudyData
from tests.studies.planted_report import cell, row, study

NAMES = ("kd", "seqkd", "imitkd", "gkd", "minillm", "distillm")
OTHER = {"name": REFERENCE[0], "params": REFERENCE[1]}


def replicated(values: np.ndarray, **attack: object) -> StudyData:
    """Swap estimates [R, K]."""
    cells, rows = [], []
    for r, own in enumerate(values, start=1):
        for name, value in zip(NAMES, own, strict=False):
            student, other = (cell(x, name, replicate=r) for x in ("student", "counterfactual"))
            cells += [student, other]
            rows.append(row(student, "swap_estimate", value, run_b=other.alias, **attack))
            rows.append(row(student, "auroc", value, **attack))
    return study(cells, rows)


def test_over_replicates_the_interval_is_bonferronis() -> None:
    values = 0.6 + 0.02 * np.random.default_rng(0).normal(size=(5, 6))
    found = worst_swap(replicated(values))
    assert found is not None
    place = int(values.mean(axis=0).argmax())
    own = values[:, place]
    low, high = stats.t.interval(1 - 0.05 / 6, 4, own.mean(), stats.sem(own))
    assert NAMES[place] in found.label
    assert (found.value, found.lower, found.upper) == pytest.approx((own.mean(), low, high))
    assert found.among == 6
    alone = worst_swap(replicated(values[:, :1]))
    assert alone is not None
    low, _ = stats.t.interval(0.95, 4, values[:, 0].mean(), stats.sem(values[:, 0]))
    assert alone.lower == pytest.approx(low)
    agreed = worst_swap(replicated(np.full((5, 6), 0.7)))
    assert agreed is not None
    assert np.isnan(agreed.lower)


@pytest.mark.slow
def test_the_picked_ones_interval_holds_its_truth() -> None:
    """Six equal techniques, five replicates: its own interval misses in a tenth or more."""
    rng = np.random.default_rng(1)
    missed = {"own": 0, "simultaneous": 0}
    for _ in range(150):
        values = 0.6 + 0.03 * rng.normal(size=(5, 6))
        found = worst_swap(replicated(values))
        assert found is not None
        own = values[:, int(values.mean(axis=0).argmax())]
        low, high = stats.t.interval(0.95, 4, own.mean(), stats.sem(own))
        missed["own"] += not low <= 0.6 <= high
        missed["simultaneous"] += not found.lower <= 0.6 <= found.upper
    assert missed["own"] / 150 > 0.08
    assert missed["simultaneous"] / 150 <= 0.05 + 2 * (0.05 * 0.95 / 150) ** 0.5


def single(seed: int = 0) -> tuple[StudyData, dict[str, AttackScores]]:
    """One replicate of six equal techniques with scores of 100 + 100 records."""
    rng = np.random.default_rng(seed)
    scores, data = {}, replicated(np.full((1, 6), 0.6))
    common = rng.normal(size=200)
    values = {}
    for name in NAMES:
        sides = []
        for role, sign in (("student", 1.0), ("counterfactual", -1.0)):
            mixed = 0.8 * common + 0.6 * rng.normal(size=200)
            mixed[:100] += 0.4 * sign
            one = AttackScores(pd.Series(mixed[:100]), pd.Series(mixed[100:]))
            scores[f"{role}-{name}-gpt2-base-r1"] = one
            sides += [one.members, one.nonmembers]
        values[name] = swap_estimate(*sides).value
    data = replicated(np.array([[values[name] for name in NAMES]]))
    attacks = {run: {LOSS: one} for run, one in scores.items()}
    return replace(data, scores=attacks), scores


def test_over_records_the_interval_is_wider_than_its_own_and_no_wider_than_bonferronis() -> None:
    data, scores = single()
    found = worst_swap(data)
    assert found is not None
    runs = [
        scores[found.label.replace("student", role) + "-r1"]
        for role in ("student", "counterfactual")
    ]
    sides = [side for one in runs for side in (one.members, one.nonmembers)]
    own, widest = swap_estimate(*sides), swap_estimate(*sides, level=bonferroni_level(6))
    assert found.value == pytest.approx(own.value)
    assert widest.lower <= found.lower < own.lower
    assert own.upper < found.upper <= widest.upper


def test_the_sentence_says_so_and_reads_the_primary_attack() -> None:
    values = 0.6 + 0.02 * np.random.default_rng(0).normal(size=(5, 6))
    text = worst_sentence(replicated(values))
    assert "largest of 6 students'" in text
    assert "largest of" not in worst_sentence(replicated(values[:, :1]))
    # The loss stands beside it and is not read.
    loss, reference = replicated(values), replicated(values + 0.2, **OTHER)
    both = pd.concat([loss.results, reference.results], ignore_index=True)
    data = replace(reference, results=both, history=both)
    assert f"AUROC {values.mean(axis=0).max() + 0.2:.3f}" in worst_sentence(data)


def test_the_sentence_promises_no_interval_where_there_is_none() -> None:
    """Replicates that all agree, and repeats of one split, leave none."""
    text = worst_sentence(replicated(np.full((5, 6), 0.7)))
    assert "largest of 6 students'" in text
    assert "holds for all" not in text
    assert "inf" not in text.replace("interval", "")
    assert "nan" not in text
