"""AUROC, paired differences and the swap estimate against loops, scipy and scikit-learn."""

import itertools

import numpy as np
import pytest
import torch
from scipy import special, stats
from sklearn.metrics import roc_auc_score

from audits.statistics import Estimate, auroc, paired_difference, swap_estimate
from audits.statistics.delong import logit_interval, rank_statistics


def scores(seed: int, n: int, m: int, *, decimals: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=n) + 0.8).round(decimals), rng.normal(size=m).round(decimals)


def psi(x: float, y: float) -> float:
    return 1.0 if x > y else 0.5 if x == y else 0.0


def naive_components(x: np.ndarray, y: np.ndarray) -> tuple[float, list[float], list[float]]:
    v10 = [sum(psi(a, b) for b in y) / len(y) for a in x]
    v01 = [sum(psi(a, b) for a in x) / len(x) for b in y]
    return sum(v10) / len(x), v10, v01


def naive_covariance(first: tuple, second: tuple) -> float:
    total = 0.0
    for i in (1, 2):
        size = len(first[i])
        pairs = zip(first[i], second[i], strict=True)
        moment = sum((a - first[0]) * (b - second[0]) for a, b in pairs) / (size - 1)
        total += moment / size
    return total


@pytest.mark.parametrize("decimals", [8, 1, 0])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (7, 3), (40, 55)])
def test_auroc_equals_pair_loop_sklearn_and_mann_whitney(n: int, m: int, decimals: int) -> None:
    x, y = scores(n + m, n, m, decimals=decimals)
    value = auroc(x, y).value
    loop = sum(psi(a, b) for a in x for b in y) / (n * m)
    assert value == pytest.approx(loop, abs=1e-12)
    labels = np.r_[np.ones(n), np.zeros(m)]
    assert value == pytest.approx(roc_auc_score(labels, np.r_[x, y]), abs=1e-12)
    assert value == pytest.approx(stats.mannwhitneyu(x, y).statistic / (n * m), abs=1e-12)


def test_scores_in_the_order_of_their_records_tell_nothing_where_they_tie() -> None:
    values, labels = np.array([9.0, 9.0, 5.0, 5.0]), np.array([True, False, True, False])
    assert auroc(values[labels], values[~labels]).value == 0.5


@pytest.mark.parametrize("decimals", [8, 1])
def test_covariance_equals_delong_loops(decimals: int) -> None:
    rng = np.random.default_rng(3)
    x, y = scores(1, 23, 31, decimals=decimals)
    both_x = np.stack([x, (x + rng.normal(size=23)).round(decimals)])
    both_y = np.stack([y, (y + rng.normal(size=31)).round(decimals)])
    ranks = rank_statistics(both_x, both_y)
    models = [naive_components(a, b) for a, b in zip(both_x, both_y, strict=True)]
    for i, j in itertools.product(range(2), repeat=2):
        expected = naive_covariance(models[i], models[j])
        assert ranks.covariance[i, j] == pytest.approx(expected, rel=1e-12)
    assert ranks.units == 23


def test_interval_is_delong_on_the_logit_scale() -> None:
    x, y = scores(5, 60, 80)
    found = auroc(x, y, level=0.9)
    area, *_ = model = naive_components(x, y)
    # Welch's degrees of freedom of the two sides' variances.
    sides = [np.var(model[i], ddof=1) / len(model[i]) for i in (1, 2)]
    degrees = sum(sides) ** 2 / (sides[0] ** 2 / 59 + sides[1] ** 2 / 79)
    quantile = stats.t.ppf(0.95, degrees)
    half = quantile * naive_covariance(model, model) ** 0.5 / (area * (1 - area))
    ends = special.expit(special.logit(area) + np.array([-half, half]))
    assert (found.lower, found.upper) == pytest.approx(tuple(ends), rel=1e-12)
    assert isinstance(found, Estimate)
    assert (found.n_members, found.n_nonmembers) == (60, 80)


def test_hand_worked_example() -> None:
    # Of 6 pairs 4.5 are in order. v10 = 1/4, 3/4 + ... by hand: (0.5, 1, 0.75) over 2 non-members.
    found = rank_statistics(np.array([[1.0, 3.0, 2.0]]), np.array([[1.0, 2.0]]))
    # v10 = (0.25, 1, 0.75), v01 = (5/6, 1/2), A = 2/3
    s10 = ((0.25 - 2 / 3) ** 2 + (1 - 2 / 3) ** 2 + (0.75 - 2 / 3) ** 2) / 2
    s01 = ((5 / 6 - 2 / 3) ** 2 + (1 / 2 - 2 / 3) ** 2) / 1
    assert found.aurocs[0] == pytest.approx(2 / 3)
    assert found.covariance[0, 0] == pytest.approx(s10 / 3 + s01 / 2)


def test_never_flipped_and_mirrored() -> None:
    x, y = scores(2, 30, 40)
    one, other = auroc(x, y), auroc(-x, -y)
    assert other.value < 0.5
    assert other.value == pytest.approx(1 - one.value)
    assert (other.lower, other.upper) == pytest.approx((1 - one.upper, 1 - one.lower))


def test_only_the_order_counts() -> None:
    x, y = scores(4, 25, 25)
    assert auroc(np.exp(x), np.exp(y)) == auroc(x, y)
    large = auroc(1e6 + x, 1e6 + y)  # float32 would tie these
    assert large.value == pytest.approx(auroc(x, y).value, abs=1e-3)
    assert auroc([np.inf, 1.0], [0.0, -np.inf]).value == 1.0


def test_tensors_and_lists_are_taken() -> None:
    x, y = scores(6, 10, 12)
    assert auroc(torch.tensor(x), torch.tensor(y)) == auroc(x.tolist(), y.tolist())


@pytest.mark.parametrize(("n", "m", "bound"), [(20, 50, 0.025 ** (1 / 20)), (1, 9, 0.025)])
def test_separated_samples_get_the_exact_bound(n: int, m: int, bound: float) -> None:
    perfect, inverted = auroc(np.arange(n) + 100.0, np.arange(m)), auroc(np.arange(n), [100.0] * m)
    assert (perfect.value, perfect.upper) == (1.0, 1.0)
    assert perfect.lower == pytest.approx(bound)
    assert (inverted.value, inverted.lower) == (0.0, 0.0)
    assert inverted.upper == pytest.approx(1 - bound)


def test_all_ties_and_single_records_keep_a_wide_interval() -> None:
    tied = auroc(np.zeros(40), np.zeros(60))
    half = stats.norm.ppf(0.975) * (0.25 / 40) ** 0.5 / 0.25
    assert tied.value == 0.5
    assert tied.upper == pytest.approx(special.expit(half))
    single = auroc([0.5], np.arange(-5, 6))
    assert single.lower < 0.1
    assert single.upper > 0.9


@pytest.mark.parametrize(
    ("x", "y"), [([], [1.0]), ([1.0], []), ([np.nan], [1.0]), ([1.0], [[1.0]])]
)
def test_bad_scores_are_refused(x: list, y: list) -> None:
    with pytest.raises(ValueError, match=r"members"):
        auroc(x, y)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_bad_level_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        auroc([1.0], [0.0], level)


def naive_obuchowski(x: np.ndarray, y: np.ndarray, x_ids: np.ndarray, y_ids: np.ndarray) -> float:
    area, v10, v01 = naive_components(x, y)
    n, m = len(x), len(y)
    a = {c: sum(v - area for v, i in zip(v10, x_ids, strict=True) if i == c) for c in set(x_ids)}
    b = {c: sum(v - area for v, i in zip(v01, y_ids, strict=True) if i == c) for c in set(y_ids)}
    both = set(a) | set(b)
    s10 = len(a) / ((len(a) - 1) * n) * sum(v * v for v in a.values())
    s01 = len(b) / ((len(b) - 1) * m) * sum(v * v for v in b.values())
    s11 = len(both) / (len(both) - 1) * sum(a.get(c, 0.0) * b.get(c, 0.0) for c in both)
    return s10 / n + s01 / m + 2 * s11 / (n * m)


def test_clusters_equal_obuchowski_loops_and_singletons_equal_delong() -> None:
    x, y = scores(8, 24, 30)
    rng = np.random.default_rng(8)
    x_ids, y_ids = rng.integers(0, 9, 24), rng.integers(5, 14, 30)  # some clusters on both sides
    ranks = rank_statistics(x[None], y[None], x_ids, y_ids)
    expected = naive_obuchowski(x, y, x_ids, y_ids)
    assert ranks.covariance[0, 0] == pytest.approx(expected, rel=1e-12)
    alone = auroc(x, y, member_clusters=np.arange(24), nonmember_clusters=np.arange(24, 54))
    plain = auroc(x, y)
    assert (alone.lower, alone.upper) == pytest.approx((plain.lower, plain.upper), rel=1e-12)


def test_copies_of_a_record_add_no_certainty() -> None:
    x, y = scores(9, 40, 40)
    ids = np.repeat(np.arange(40), 5)
    plain = auroc(x, y)
    copied = auroc(
        np.repeat(x, 5), np.repeat(y, 5), member_clusters=ids, nonmember_clusters=ids + 40
    )
    assert (copied.lower, copied.upper) == pytest.approx((plain.lower, plain.upper), rel=1e-9)
    perfect = auroc(
        np.repeat(x, 5) + 99, np.repeat(y, 5), member_clusters=ids, nonmember_clusters=ids + 40
    )
    assert perfect.lower == pytest.approx(0.025 ** (1 / 40))


def test_clusters_must_fit() -> None:
    with pytest.raises(ValueError, match="both|neither"):
        auroc([1.0, 2.0], [0.0], member_clusters=[0, 1])
    with pytest.raises(ValueError, match="member_clusters: expected 2 integers"):
        auroc([1.0, 2.0], [0.0], member_clusters=[0.5, 1.0], nonmember_clusters=[1])


def paired(seed: int, n: int, lift: float) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    ax, ay = rng.normal(size=n) + lift, rng.normal(size=n)
    return ax, ay, 0.8 * (ax - lift) + 0.6 * rng.normal(size=n), 0.8 * ay + 0.6 * rng.normal(size=n)


def test_paired_difference_is_near_delong_where_delong_holds() -> None:
    ax, ay, bx, by = paired(1, 800, 0.3)
    found = paired_difference(ax, ay, bx, by)
    a, b = naive_components(ax, ay), naive_components(bx, by)
    error = (naive_covariance(a, a) + naive_covariance(b, b) - 2 * naive_covariance(a, b)) ** 0.5
    assert found.value == pytest.approx(a[0] - b[0])
    assert found.upper - found.lower == pytest.approx(2 * stats.norm.ppf(0.975) * error, rel=0.02)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(found.value / error), rel=0.3)
    unpaired = (naive_covariance(a, a) + naive_covariance(b, b)) ** 0.5
    assert found.upper - found.lower < 0.75 * 2 * stats.norm.ppf(0.975) * unpaired


def test_paired_difference_recovers_the_variance_of_its_terms() -> None:
    ax, ay, bx, by = paired(2, 60, 1.5)
    ranks = rank_statistics(np.stack([ax, bx]), np.stack([ay, by]))
    (a, b), cov = ranks.aurocs, ranks.covariance
    la, ua = logit_interval(float(a), float(cov[0, 0]), 60, 0.05, ranks.degrees[0])
    lb, ub = logit_interval(float(b), float(cov[1, 1]), 60, 0.05, ranks.degrees[1])
    r = cov[0, 1] / (cov[0, 0] * cov[1, 1]) ** 0.5
    found = paired_difference(ax, ay, bx, by)
    lower = a - b - ((a - la) ** 2 + (ub - b) ** 2 - 2 * r * (a - la) * (ub - b)) ** 0.5
    upper = a - b + ((ua - a) ** 2 + (b - lb) ** 2 - 2 * r * (ua - a) * (b - lb)) ** 0.5
    assert (found.lower, found.upper) == pytest.approx((lower, upper), rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_p_value_and_interval_agree(seed: int) -> None:
    args = paired(seed, 50, 0.25)
    p = paired_difference(*args).p_value
    for level in (0.5, 0.9, 0.95, 0.999):
        found = paired_difference(*args, level=level)
        assert (found.lower > 0 or found.upper < 0) == (p < 1 - level)
    reverse = paired_difference(args[2], args[3], args[0], args[1])
    assert reverse.p_value == pytest.approx(p, rel=1e-6)
    assert reverse.value == -paired_difference(*args).value


def test_extreme_aurocs_keep_a_width() -> None:
    high, low = np.arange(50) + 100.0, np.arange(50) * 1.0
    same = paired_difference(high, low, high, low)
    assert (same.value, same.p_value) == (0.0, 1.0)
    gap = 1 - 0.025 ** (1 / 50)
    assert (same.lower, same.upper) == pytest.approx((-gap, gap))
    opposite = paired_difference(high, low, low, high)
    assert (opposite.value, opposite.upper) == (1.0, 1.0)
    assert opposite.lower == pytest.approx(1 - 2**0.5 * gap)
    assert opposite.p_value < 1e-10


def test_paired_records_must_match() -> None:
    with pytest.raises(ValueError, match="3 records under a, 2 under b"):
        paired_difference([1.0, 2, 3], [0.0], [1.0, 2], [0.0])


def test_swap_estimate_is_free_of_what_both_models_find_and_finds_a_leak() -> None:
    rng = np.random.default_rng(11)
    n, difficulty = 400, 3.0  # the private side is easier under any model
    x = rng.normal(size=(2, n)) + difficulty
    y = rng.normal(size=(2, n))
    clean = swap_estimate(x[0], y[0], x[1], y[1])
    assert auroc(x[0], y[0]).lower > 0.9
    assert clean.lower < 0.5 < clean.upper
    leaking = swap_estimate(x[0] - difficulty + 1, y[0], x[1] - difficulty, y[1] + 1)
    a = auroc(x[0] - difficulty + 1, y[0]).value
    b = auroc(x[1] - difficulty, y[1] + 1).value
    assert leaking.value == pytest.approx((a + 1 - b) / 2)
    between = paired_difference(x[0] - difficulty + 1, y[0], x[1] - difficulty, y[1] + 1)
    halves = (0.5 + between.lower / 2, 0.5 + between.upper / 2)
    assert (leaking.lower, leaking.upper) == pytest.approx(halves)
    assert leaking.lower > 0.6
    assert leaking.p_value < 1e-6


@pytest.mark.parametrize("area", [0.5, 0.7, 0.95])
def test_small_sample_of_the_coverage_simulation(area: float) -> None:
    rng = np.random.default_rng(int(area * 100))
    shift, draws = stats.norm.ppf(area) * 2**0.5, 400
    covered = 0
    for _ in range(draws):
        found = auroc(rng.normal(size=50) + shift, rng.normal(size=50))
        covered += found.lower <= area <= found.upper
    assert 0.92 * draws <= covered <= 0.98 * draws


def test_pure_noise_averages_one_half() -> None:
    rng = np.random.default_rng(0)
    areas = [auroc(rng.normal(size=200), rng.normal(size=200)).value for _ in range(1000)]
    assert np.mean(areas) == pytest.approx(0.5, abs=0.003)
