"""TPR at low FPR and balanced accuracy against scikit-learn's ROC, loops and closed forms."""

import math
import time

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_curve

from audits.statistics import balanced_accuracy, tpr_at_fpr
from audits.statistics.proportions import clopper_pearson, effective_size, wilson


def scores(seed: int, n: int, m: int, lift: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=n) + lift, rng.normal(size=m)


@pytest.mark.parametrize("decimals", [8, 1, 0])
@pytest.mark.parametrize("fpr", [0.3, 0.1, 0.05, 0.01])
def test_value_is_the_best_point_of_the_roc_up_to_fpr(fpr: float, decimals: int) -> None:
    x, y = (side.round(decimals) for side in scores(1, 150, 200))
    labels = np.r_[np.ones(150), np.zeros(200)]
    false, true, _ = roc_curve(labels, np.r_[x, y], drop_intermediate=False)
    found = tpr_at_fpr(x, y, fpr)
    assert found.value == pytest.approx(true[false <= fpr + 1e-12].max())
    assert found.realised_fpr <= fpr + 1e-12
    assert found.value == np.mean(x > found.threshold)


def test_ties_are_never_let_in() -> None:
    found = tpr_at_fpr([3.0, 2.0, 2.0, 1.0], [2.0] * 5 + [0.0] * 15, 0.1)
    assert (found.value, found.realised_fpr, found.threshold) == (0.25, 0.0, 2.0)


@pytest.mark.parametrize(
    ("fpr", "m", "kind"),
    [
        (0.1, 100, "bootstrap"),
        (0.1, 99, "operating_point"),
        (0.01, 100, "operating_point"),
        (0.001, 1000, "operating_point"),
        (0.01, 99, "not_measurable"),
        (0.001, 999, "not_measurable"),
    ],
)
def test_kind_follows_the_expected_count(fpr: float, m: int, kind: str) -> None:
    found = tpr_at_fpr(*scores(2, 80, m), fpr)
    assert found.kind == kind
    assert (found.n_members, found.n_nonmembers) == (80, m)
    figures = (found.value, found.lower, found.upper, found.threshold, found.fpr_upper)
    assert all(math.isnan(v) for v in figures) == (kind == "not_measurable")
    assert any(math.isnan(v) for v in figures) == (kind == "not_measurable")


def test_interval_is_close_to_a_plain_stratified_bootstrap() -> None:
    x, y = scores(3, 1500, 1500)
    rng = np.random.default_rng(0)
    plain = []
    for _ in range(1500):
        resampled = np.sort(rng.choice(y, y.size))[::-1]
        plain.append(np.mean(rng.choice(x, x.size) > resampled[150]))
    found = tpr_at_fpr(x, y, 0.1)
    ends = np.quantile(plain, [0.025, 0.975])
    assert (found.lower, found.upper) == pytest.approx(tuple(ends), abs=0.01)


def test_interval_pays_for_the_threshold() -> None:
    x, y = scores(4, 2000, 2000)
    found = tpr_at_fpr(x, y, 0.01)
    alone = clopper_pearson(found.value * 2000, 2000, 0.05)
    assert found.upper - found.lower > 1.5 * (alone[1] - alone[0])


def test_interval_does_not_collapse_at_the_ceiling() -> None:
    found = tpr_at_fpr(np.arange(100) + 1e3, np.arange(100), 0.1)
    assert found.value == 1.0
    assert 0.9 < found.lower < 0.99
    assert found.upper > 0.99


def test_same_key_same_interval_other_key_other_draws() -> None:
    x, y = scores(5, 300, 300)
    one = tpr_at_fpr(x, y, 0.1, seed=[1, 2])
    assert tpr_at_fpr(x, y, 0.1, seed=[1, 2]) == one
    other = tpr_at_fpr(x, y, 0.1, seed=[1, 3])
    assert other.lower != one.lower
    assert other.lower == pytest.approx(one.lower, abs=0.02)
    shuffled = tpr_at_fpr(x[::-1], y[::-1], 0.1, seed=[1, 2])
    assert shuffled == one


def test_operating_point_has_clopper_pearson_on_both_rates() -> None:
    x, y = scores(6, 120, 400)
    found = tpr_at_fpr(x, y, 0.01)
    hits, false = int(np.sum(x > found.threshold)), int(np.sum(y > found.threshold))
    assert false == 4
    exact = stats.binomtest(false, 400).proportion_ci(0.975, "exact")
    assert (found.fpr_lower, found.fpr_upper) == pytest.approx((exact.low, exact.high))
    exact = stats.binomtest(hits, 120).proportion_ci(0.975, "exact")
    assert (found.tpr_lower, found.tpr_upper) == pytest.approx((exact.low, exact.high))


def test_rounding_of_fpr_times_n_loses_no_nonmember() -> None:
    assert 0.29 * 100 < 29  # in floating point
    assert tpr_at_fpr(np.arange(100), np.arange(100), 0.29).realised_fpr == 0.29


@pytest.mark.parametrize("decimals", [8, 1])
def test_certified_bounds_by_loop(decimals: int) -> None:
    x, y = (side.round(decimals) for side in scores(7, 300, 800))
    found = tpr_at_fpr(x, y, 0.01)
    descending = sorted(y, reverse=True)
    j = max(j for j in range(800) if stats.beta.cdf(0.01, j + 1, 800 - j) >= 0.975)
    hits = sum(v > descending[j] for v in x)
    assert found.lower == pytest.approx(stats.binomtest(hits, 300).proportion_ci(0.95).low)
    j = min(j for j in range(800) if stats.beta.sf(0.01, j + 1, 800 - j) >= 0.975)
    hits = sum(v >= descending[j] for v in x)
    assert found.upper == pytest.approx(stats.binomtest(hits, 300).proportion_ci(0.95).high)


def test_certified_bound_is_zero_where_no_threshold_is_safe() -> None:
    # 0.99^m <= 0.025 needs m >= 368: below that even the largest non-member is no safe threshold.
    high = np.arange(200) + 1e4
    assert tpr_at_fpr(high, np.arange(367), 0.01).lower == 0.0
    assert tpr_at_fpr(high, np.arange(368), 0.01).lower > 0.9


def test_clusters_widen_the_interval_and_singletons_change_nothing() -> None:
    x, y = scores(8, 200, 200)
    ids = np.arange(200)
    alone = tpr_at_fpr(x, y, 0.1, member_clusters=ids, nonmember_clusters=ids + 200)
    assert alone == tpr_at_fpr(x, y, 0.1)
    copies = {"member_clusters": ids.repeat(4), "nonmember_clusters": ids.repeat(4) + 200}
    copied = tpr_at_fpr(x.repeat(4), y.repeat(4), 0.1, **copies)
    plain = tpr_at_fpr(x.repeat(4), y.repeat(4), 0.1)
    assert copied.upper - copied.lower > 1.5 * (plain.upper - plain.lower)
    few = tpr_at_fpr(
        x.repeat(4)[:240], y.repeat(4)[:240], 0.1, **{k: v[:240] for k, v in copies.items()}
    )
    assert few.kind == "operating_point"  # 24 expected above, worth 6 independent ones


def test_bad_arguments_are_refused() -> None:
    for fpr in (0.0, 1.0, -0.1):
        with pytest.raises(ValueError, match="fpr"):
            tpr_at_fpr([1.0], [0.0], fpr)
    with pytest.raises(ValueError, match="NaN"):
        tpr_at_fpr([np.nan], [0.0], 0.1)


def test_two_thousand_draws_on_ten_thousand_scores_in_a_second() -> None:
    x, y = scores(9, 10_000, 10_000)
    start = time.process_time()
    tpr_at_fpr(x, y, 0.01, n_draws=2000)
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize(("n", "fpr", "lift"), [(100, 0.1, 0.74), (200, 0.1, 4.4), (50, 0.1, 0.74)])
def test_small_sample_of_the_coverage_simulation(n: int, fpr: float, lift: float) -> None:
    rng, draws = np.random.default_rng(n), 300
    truth = stats.norm.sf(stats.norm.isf(fpr) - lift)
    covered = 0
    for _ in range(draws):
        found = tpr_at_fpr(rng.normal(size=n) + lift, rng.normal(size=n), fpr, seed=rng)
        covered += found.lower <= truth <= found.upper
    assert covered >= 0.92 * draws


def test_balanced_accuracy_by_loop_on_the_other_half() -> None:
    x, y = (side.round(1) for side in scores(10, 60, 90))
    found = balanced_accuracy(x, y, seed=5)
    rng = np.random.default_rng(5)
    x_half, y_half = rng.permutation(60) < 30, rng.permutation(90) < 45
    gains = {t: np.mean(x[x_half] > t) - np.mean(y[y_half] > t) for t in sorted({*x, *y})}
    best = max(gains, key=lambda t: (gains[t], -t))
    caught, spared = np.mean(x[~x_half] > best), np.mean(y[~y_half] <= best)
    assert found.value == pytest.approx((caught + spared) / 2)
    assert (found.n_members, found.n_nonmembers) == (30, 45)
    (la, ua), (lb, ub) = wilson(caught, 30, 0.05), wilson(spared, 45, 0.05)
    assert found.lower == pytest.approx(found.value - math.hypot(caught - la, spared - lb) / 2)
    assert found.upper == pytest.approx(found.value + math.hypot(ua - caught, ub - spared) / 2)


def test_balanced_accuracy_of_noise_is_one_half_on_average() -> None:
    rng = np.random.default_rng(1)
    values = [
        balanced_accuracy(rng.normal(size=20), rng.normal(size=20), seed=i).value
        for i in range(800)
    ]
    assert np.mean(values) == pytest.approx(0.5, abs=0.012)


def test_balanced_accuracy_keeps_clusters_together_and_needs_two_records() -> None:
    ids = np.repeat(np.arange(10), 6)
    x = ids * 1.0
    found = balanced_accuracy(x, x, member_clusters=ids, nonmember_clusters=ids, seed=2)
    assert (found.n_members, found.n_nonmembers) == (30, 30)
    assert found.upper - found.lower > 0.4  # worth five records a side, not thirty
    with pytest.raises(ValueError, match="too few"):
        balanced_accuracy([1.0], [0.0, 1.0])


@pytest.mark.parametrize(("k", "n"), [(0, 9), (9, 9), (4, 9), (1, 300)])
def test_proportion_intervals_equal_scipy(k: int, n: int) -> None:
    test = stats.binomtest(k, n)
    for ours, method in ((clopper_pearson(k, n, 0.1), "exact"), (wilson(k / n, n, 0.1), "wilson")):
        theirs = test.proportion_ci(0.9, method)
        assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_effective_size() -> None:
    hits = np.array([True, False] * 10)
    assert effective_size(hits, None) == 20.0
    paired_ids = np.repeat(np.arange(10), 2)  # one hit in every pair: no variance between clusters
    assert effective_size(hits, paired_ids) == 20.0
    alike = np.repeat(np.array([True, False] * 5), 2)
    assert effective_size(alike, paired_ids) == 10.0
    assert effective_size(np.zeros(20, dtype=bool), paired_ids) == 10.0
    assert effective_size(hits, np.zeros(20, dtype=int)) == 1.0
