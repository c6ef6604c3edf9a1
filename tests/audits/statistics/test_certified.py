"""Certified bounds of a TPR: by loop, with clusters, and as rarely wrong as they claim."""

import numpy as np
import pytest
from scipy import stats

from audits.statistics import certified_tpr, tpr_at_fpr
from audits.statistics.proportions import fewest_independent


@pytest.mark.parametrize("decimals", [8, 1])
def test_bounds_by_loop(decimals: int) -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=n).round(decimals) for n in (700, 1200))
    found = certified_tpr(x + 1.0, y, 0.01)
    descending = sorted(y, reverse=True)
    # P(Beta(j + 1, m - j) <= a) is P(Binomial(m, a) >= j + 1).
    j = max(j for j in range(1200) if stats.binom.sf(j, 1200, 0.01) >= 1 - 0.025 / 2)
    hits = sum(v > descending[j] for v in x + 1.0)
    expected = stats.binomtest(hits, 700).proportion_ci(0.975).low
    assert found.lower == pytest.approx(expected)
    j = min(j for j in range(1200) if stats.binom.cdf(j, 1200, 0.01) >= 1 - 0.05 / 2)
    hits = sum(v >= descending[j] for v in x + 1.0)
    assert found.upper == pytest.approx(stats.binomtest(hits, 700).proportion_ci(0.95).high)
    assert found.value == np.mean(x + 1.0 > descending[12])
    assert (found.n_members, found.n_nonmembers) == (700, 1200)


def test_few_records_certify_nothing_and_are_no_error() -> None:
    few = certified_tpr(np.arange(30) + 100.0, np.arange(30.0), 0.01)
    assert (few.value, few.lower, few.upper) == (1.0, 0.0, 1.0)
    # 0.99^m <= 0.0125 from m = 437 on.
    high = np.arange(300) + 1e4
    assert certified_tpr(high, np.arange(436.0), 0.01).lower == 0.0
    assert certified_tpr(high, np.arange(437.0), 0.01).lower > 0.9
    assert tpr_at_fpr(high, np.arange(99.0), 0.01).kind == "not_measurable"


def test_copies_in_a_cluster_add_nothing() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=1000) + 1.0, rng.normal(size=1500)
    plain = certified_tpr(x, y, 0.01)
    copied = certified_tpr(
        x.repeat(4),
        y.repeat(4),
        0.01,
        member_clusters=np.arange(1000).repeat(4),
        nonmember_clusters=np.arange(1500).repeat(4) + 1000,
    )
    assert copied.upper == pytest.approx(plain.upper)
    # One of four copies of a threshold may be above it, so that the lower bound may lose a rank.
    assert plain.lower - 0.01 < copied.lower <= plain.lower
    alone = certified_tpr(
        x, y, 0.01, member_clusters=np.arange(1000), nonmember_clusters=np.arange(1500)
    )
    assert alone == plain


def test_what_clusters_are_worth_at_least() -> None:
    assert fewest_independent(7, None) == 7.0
    assert fewest_independent(6, np.array([1, 1, 2, 2, 3, 3])) == pytest.approx(3.0)
    assert fewest_independent(4, np.array([1, 1, 1, 2])) == pytest.approx(16 / 10)


@pytest.mark.parametrize(("n", "share"), [(300, 1), (1500, 1), (1200, 4)])
def test_bounds_err_no_more_than_they_say(n: int, share: int) -> None:
    """Scores of one distribution, in clusters of `share` alike: the TPR is the FPR."""
    rng = np.random.default_rng(n + share)
    ids = np.arange(n) // share
    wrong = np.zeros(2)
    for _ in range(400):
        x, y = (rng.normal(size=n // share).repeat(share) for _ in range(2))
        found = certified_tpr(x, y, 0.01, member_clusters=ids, nonmember_clusters=ids + n)
        wrong += (found.lower > 0.01, found.upper < 0.01)
    assert wrong[0] <= stats.binom.ppf(0.999, 400, 0.025)
    assert wrong[1] <= stats.binom.ppf(0.999, 400, 0.05)


def test_bad_arguments_are_named() -> None:
    for argument in ("fpr", "lower_tail", "upper_tail"):
        with pytest.raises(ValueError, match=argument):
            certified_tpr([1.0], [0.0], **{"fpr": 0.01, argument: 1.0})
    with pytest.raises(ValueError, match="NaN"):
        certified_tpr([np.nan], [0.0], 0.01)
