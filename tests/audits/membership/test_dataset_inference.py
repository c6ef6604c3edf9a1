"""A set of weakly exposed records is recognised, one of records that nobody trained on is not."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from audits.membership import dataset_inference
from audits.membership.dataset_inference import (
    SET_EFFECT,
    SETS_DETECTED,
    dataset_inference_rows,
    exchange_test,
)
from audits.membership.metrics import ScoredRecords
from audits.rows import ResultRow


def side(population: str, scores: np.ndarray, per_cluster: int = 1) -> list[ScoredRecords]:
    n = scores.shape[1]
    ids = [f"{population}-{i}" for i in range(n)]
    clusters = np.arange(n) // per_cluster + (10**6 if population == "held_out" else 0)
    return [ScoredRecords(population, ids, ["qa"] * n, clusters, one) for one in scores]


def rows_of(seed: int, shifts: Sequence[float], n: int = 200) -> list[ResultRow]:
    rng = np.random.default_rng(seed)
    inside, outside = (rng.normal(size=(len(shifts), n)) for _ in range(2))
    inside = inside + np.array(shifts)[:, None]
    return dataset_inference_rows(side("private", inside), side("held_out", outside), False)


def test_p_value_is_that_of_a_permutation_test() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.4, size=12), rng.normal(size=15)
    ours = exchange_test(x, y, 20_000, np.random.default_rng(1))
    reference = stats.permutation_test(
        (x, y),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        vectorized=True,
        n_resamples=20_000,
        alternative="greater",
        rng=np.random.default_rng(2),
    )
    assert ours == pytest.approx(reference.pvalue, abs=0.01)


def test_equal_scores_are_no_evidence() -> None:
    assert exchange_test(np.ones(9), np.ones(9), 99, np.random.default_rng(0)) == 1.0
    constant = [side(name, np.zeros((2, 60)))[0:2] for name in ("private", "held_out")]
    assert dataset_inference_rows(*constant, None)[0].p_value == 1.0


def test_signals_too_weak_for_a_record_are_found_in_a_set() -> None:
    """Three attacks of AUROC 0.6: a record is a guess, fifty together are not."""
    whole, *sets = rows_of(0, [0.35, 0.35, 0.35])
    assert whole.metric == SET_EFFECT
    assert whole.p_value is not None
    assert whole.p_value <= 0.002
    # Independent signals add up: sqrt(3) * 0.35 with the best weights.
    assert whole.value == pytest.approx(0.6, abs=0.2)
    shares = {row.params["set_size"]: row.value for row in sets}
    assert list(shares) == [5, 10, 20, 50]
    assert all(row.metric == SETS_DETECTED for row in sets)
    assert shares[5] < 0.5 < 0.9 < shares[50]


def test_records_that_were_met_on_the_other_side_are_not_recognised() -> None:
    """A counterfactual, or roles that were swapped: the members score lower."""
    whole, *sets = rows_of(1, [-1.0, -0.8, 0.0])
    assert whole.value is not None
    assert whole.value < -0.5
    assert whole.p_value is not None
    assert whole.p_value > 0.99
    assert all(row.value == 0.0 for row in sets)


def test_the_attack_that_knows_is_weighed_more_than_those_that_do_not() -> None:
    alone = rows_of(3, [0.5])[0]
    among = rows_of(3, [0.5, 0.0, 0.0, 0.0])[0]
    assert among.value == pytest.approx(alone.value, abs=0.25)
    assert among.p_value == pytest.approx(0.001, abs=0.002)


def test_sets_that_nobody_trained_on_are_accused_in_at_most_the_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At 5%, 200 null draws give more than 17 false alarms in 1.4% of right tests."""
    monkeypatch.setattr(dataset_inference, "N_SETS", 1)
    alarms = sum(rows_of(seed, [0.0] * 4, n=90)[0].p_value <= 0.05 for seed in range(200))
    assert alarms <= 17


def test_near_duplicates_count_once() -> None:
    """Ten copies of ninety texts teach and show no more than the texts do."""
    rng = np.random.default_rng(5)
    once = [rng.normal(size=(2, 90)) for _ in range(2)]

    def effect(copies: int) -> float | None:
        sides = (
            side(name, np.repeat(scores, copies, axis=1), copies)
            for name, scores in zip(("private", "held_out"), once, strict=True)
        )
        return dataset_inference_rows(*sides, None)[0].value

    assert effect(10) == pytest.approx(effect(1))


def test_too_few_units_say_nothing() -> None:
    assert rows_of(0, [2.0, 2.0], n=20) == []
    assert dataset_inference_rows([], [], None) == []
