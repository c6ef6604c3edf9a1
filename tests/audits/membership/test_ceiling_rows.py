"""Ceilings beside measured figures: of units, for attacks that read no coin, where they hold."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from audits.membership.ceiling_rows import ceiling_rows
from audits.membership.evaluation import Opposition, evaluate
from audits.membership.metrics import ScoredRecords
from audits.rows import ResultRow
from common.guarantee import Certificate, Guarantee
from tests.audits.membership.test_epsilon_rows import ATTACKS, SIDES, N, side_of

MU = 1.0
GAUSSIAN = Guarantee(certificate=Certificate.dp, defence="toy", mu=MU)


def power(level: float) -> float:
    return float(stats.norm.cdf(stats.norm.ppf(level) + MU))


def by_metric(rows: list[ResultRow]) -> dict[str, ResultRow]:
    return {row.metric: row for row in rows}


def test_ceilings_and_figures_are_of_clusters() -> None:
    paired = [
        replace(side, clusters=side.clusters[0] + np.arange(N, dtype=np.int64) // 2)
        for side in SIDES
    ]
    for sides, units in ((SIDES, N), (paired, N // 2)):
        rows = by_metric(ceiling_rows("min_k", {"k": 0.2}, *sides, GAUSSIAN, [0.1]))
        levels = [k / (units + 1) for k in range(1, units + 1)]
        x, y = (side.scores.reshape(units, -1).mean(axis=1) for side in sides)
        assert rows["auroc_upper"].value == pytest.approx(np.mean([power(a) for a in levels]))
        assert rows["unit_auroc"].value == pytest.approx((x[:, None] > y).mean())
        admitted = units // 10
        at = rows["tpr_upper_at_fpr_0.1"]
        assert at.value == pytest.approx(power((admitted + 1) / (units + 1)))
        assert rows["unit_tpr_at_fpr_0.1"].value == (x > np.sort(y)[-admitted - 1]).mean()
        told = {"k": 0.2, "certificate": "dp", "defence": "toy", "unit": "cluster"}
        assert at.params == {**told, "admitted": admitted}
        for row in rows.values():
            assert (row.n_members, row.n_nonmembers, row.skipped) == (units, units, 3)


def test_a_training_that_keeps_its_guarantee_is_below_it_and_another_is_caught() -> None:
    """Each unit's own direction under one noise of the guaranteed size, and under a third of it."""
    rng, dealt = np.random.default_rng(0), 400
    inside = rng.random(dealt) < 0.5
    for noise, caught in ((1 / MU, False), (1 / (3 * MU), True)):
        scores = inside + rng.normal(0.0, noise, dealt)
        sides = [
            ScoredRecords(
                *(name, [str(one) for one in np.flatnonzero(took)], [""] * int(took.sum())),
                np.flatnonzero(took).astype(np.int64),
                scores[took],
            )
            for name, took in (("private", inside), ("held_out", ~inside))
        ]
        rows = by_metric(ceiling_rows("loss", {}, *sides, GAUSSIAN, [0.1]))
        for measured, ceiling in (
            ("unit_auroc", "auroc_upper"),
            ("unit_tpr_at_fpr_0.1", "tpr_upper_at_fpr_0.1"),
        ):
            lower, upper = rows[measured].lower, rows[ceiling].value
            assert lower is not None
            assert upper is not None
            assert (lower > upper) == caught


@pytest.mark.parametrize(
    "guarantee",
    [
        GAUSSIAN.voided("dp.seed is given"),
        replace(GAUSSIAN, certificate=Certificate.instance),
        replace(GAUSSIAN, mu=None),
    ],
)
def test_what_guarantees_nothing_has_no_ceiling(guarantee: Guarantee) -> None:
    assert ceiling_rows("loss", {}, *SIDES, guarantee, [0.1]) == []


def test_a_unit_on_both_sides_had_no_coin() -> None:
    other = replace(SIDES[1], clusters=SIDES[0].clusters)
    assert ceiling_rows("loss", {}, SIDES[0], other, GAUSSIAN, [0.1]) == []


def test_ceilings_stand_beside_attacks_that_read_no_coin_where_coins_dealt() -> None:
    sides = {"private": side_of(True, 1), "held_out": side_of(False, 2)}
    for coins in (True, False):
        pair = Opposition("private", "held_out", fair_coins=coins)
        found = evaluate(ATTACKS, [0.1], sides, [pair], {}, named=True, guarantee=GAUSSIAN)
        bounded = [row for row in found.results if row.metric == "auroc_upper"]
        expected = [("loss", None), ("reference", "base"), ("rmia", None)] if coins else []
        assert [(row.name, row.params.get("reference")) for row in bounded] == expected


def test_curves_of_sampled_noise_and_of_epsilon_alone() -> None:
    """The curve of the noise lies below that of its epsilon and delta, and both are ceilings."""
    sampled = replace(GAUSSIAN, mu=None, epsilon=8.0, delta=1000**-1.1)
    exact = replace(sampled, rate=0.256, noise=1.33, steps=78)
    values = [
        by_metric(ceiling_rows("loss", {}, *SIDES, one, []))["auroc_upper"].value
        for one in (exact, sampled)
    ]
    assert values[0] == pytest.approx(0.89, abs=0.01)
    assert values[1] == pytest.approx(1.0, abs=0.01)
