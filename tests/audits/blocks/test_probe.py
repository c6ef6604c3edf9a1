"""The probe is scikit-learn's regression on held-out folds, and honest where there is nothing."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from audits.blocks.probe import ProbeOptions, joint_p_values, probe, standardised_kernel
from audits.blocks.signals import HiddenProbe
from audits.scoring.text_folds import grouped_folds, log_odds
from common.errors import UserError

OPTIONS = ProbeOptions((0.03, 1.0), folds=4, inner_folds=2, permutations=199, seed=0)
ONE = ProbeOptions((0.3,), folds=4, inner_folds=2, permutations=199, seed=0)
TASKS = ["a", "b", "b"] * 40
CLUSTERS = np.repeat(np.arange(60), 2)
INSIDE = np.tile([True, True, False, False], 30)


def features(shift: float, width: int = 30, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(120, width)) * 3 + 5
    found[:, 0] += shift * INSIDE
    return found


def test_held_out_scores_are_those_of_scikit_learn() -> None:
    own = features(2.0)
    found = probe(own, INSIDE, TASKS, CLUSTERS, ONE)
    (folds,) = grouped_folds(TASKS, CLUSTERS, 4, 0, 1)
    areas = []
    for fold in range(4):
        train, test = folds != fold, folds == fold
        scaler = StandardScaler().fit(own[train])
        # Features divided by the root of their number: one C means the same at every width.
        x, z = (scaler.transform(own[rows]) / np.sqrt(30) for rows in (train, test))
        model = LogisticRegression(C=0.3, tol=1e-8, max_iter=1000).fit(x, INSIDE[train])
        odds = model.decision_function(z)
        np.testing.assert_allclose(found.scores[test], odds, atol=2e-3)
        areas.append(roc_auc_score(INSIDE[test], odds))
    assert found.auroc == pytest.approx(np.mean(areas), abs=5e-3)


def test_the_strength_is_chosen_inside_the_training_folds() -> None:
    own = features(2.0)
    found = probe(own, INSIDE, TASKS, CLUSTERS, OPTIONS)
    (folds,) = grouped_folds(TASKS, CLUSTERS, 4, 0, 1)
    for fold in range(4):
        train, test = np.flatnonzero(folds != fold), folds == fold
        (inner,) = grouped_folds([TASKS[i] for i in train], CLUSTERS[train], 2, 1, 1)
        best, expected = -1.0, None
        for c in OPTIONS.strengths:
            areas = []
            for place in range(2):
                rest = train[inner != place]
                odds = log_odds(standardised_kernel(own, rest) * c / 10, rest, INSIDE[:, None])
                held = train[inner == place]
                areas.append(roc_auc_score(INSIDE[held], odds[held, 0]))
            if np.mean(areas) > best:
                best = float(np.mean(areas))
                expected = log_odds(
                    standardised_kernel(own, train) * c / 10, train, INSIDE[:, None]
                )
        assert expected is not None
        np.testing.assert_allclose(found.scores[test], expected[test, 0], atol=1e-3)


def test_wider_than_records_it_finds_a_leak_and_accuses_no_noise() -> None:
    wide = features(0.0, width=400)
    aurocs = [probe(features(0.0, 400, seed), INSIDE, TASKS, CLUSTERS, ONE) for seed in range(20)]
    mean = np.mean([one.auroc for one in aurocs])
    error = np.mean([one.standard_error for one in aurocs])
    assert abs(mean - 0.5) < 3 * error / 20**0.5
    assert sum(one.p_value <= 0.05 for one in aurocs) <= 4
    wide[:, :60] += 0.9 * 3 * INSIDE[:, None]
    leak = probe(wide, INSIDE, TASKS, CLUSTERS, ONE)
    assert leak.p_value == 1 / 200
    assert leak.auroc > 0.9


def test_near_duplicates_of_members_are_no_evidence() -> None:
    twice = features(0.0, width=400)
    twice[1::2] = twice[::2]
    aurocs = [probe(twice[:, draw::4], INSIDE, TASKS, CLUSTERS, ONE).auroc for draw in range(4)]
    assert abs(np.mean(aurocs) - 0.5) < 0.15
    split_up = probe(twice, INSIDE, TASKS, np.arange(120), ONE)
    assert split_up.auroc > 0.9


def test_labellings_bear_one_name_in_every_run_on_the_same_folds() -> None:
    own = features(2.0)
    found = probe(own, INSIDE, TASKS, CLUSTERS, ONE)
    assert len(set(found.labellings)) == len(found.permuted) == 199
    assert found.standard_error == pytest.approx(np.std(found.permuted, ddof=1))
    other_model = probe(features(0.0, seed=1), INSIDE, TASKS, CLUSTERS, ONE)
    assert other_model.labellings == found.labellings
    for changed in (
        probe(own[2:], INSIDE[2:], TASKS[2:], CLUSTERS[2:], ONE),
        probe(own, ~INSIDE & (CLUSTERS != 1) | (CLUSTERS == 0), TASKS, CLUSTERS, ONE),
        probe(own, INSIDE, TASKS, CLUSTERS, replace(ONE, folds=5)),
    ):
        assert not set(changed.labellings) & set(found.labellings)


@pytest.mark.parametrize("directed", [True, False])
def test_blocks_are_corrected_by_their_joint_permutations(directed: bool) -> None:
    draw = np.random.default_rng(5)
    permuted = 0.5 + 0.05 * draw.normal(size=(199, 4))
    observed = np.array([0.5, 0.62, 0.9, 0.36])
    figures = np.vstack([observed, permuted])
    expected = []
    for block in range(4):
        reached = 0
        for row in figures:
            own = [(row[b] - figures[:, b].mean()) / figures[:, b].std() for b in range(4)]
            mine = (observed[block] - figures[:, block].mean()) / figures[:, block].std()
            largest = max(own) if directed else max(map(abs, own))
            reached += largest >= (mine if directed else abs(mine)) - 1e-12
        expected.append(reached / 200)
    found = joint_p_values(observed, permuted, directed=directed)
    np.testing.assert_allclose(found, expected)
    assert found[2] == 1 / 200, "not multiplied by the number of blocks"
    assert (found[3] < 0.2) is not directed


def test_options_are_checked() -> None:
    for wrong in ({"folds": 1}, {"permutations": 99}, {"strengths": []}, {"strengths": [0.0]}):
        with pytest.raises(UserError, match="hidden_probe"):
            HiddenProbe(**wrong)
