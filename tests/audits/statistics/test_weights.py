"""Weighted AUROCs against scikit-learn, against repeated records, and by how often they cover."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from audits.statistics import auroc, swap_estimate
from audits.statistics.delong import rank_statistics


def sample(seed: int, n: int = 40, m: int = 30) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    x, y = (rng.normal(size=n) + 0.7).round(1), rng.normal(size=m).round(1)
    return x, y, rng.integers(0, 4, n).astype(float), rng.integers(1, 4, m).astype(float)


def test_weights_count_records_as_often() -> None:
    x, y, w, v = sample(0)
    found = auroc(x, y, member_weights=w, nonmember_weights=v)
    labels = np.r_[np.ones(len(x)), np.zeros(len(y))]
    expected = roc_auc_score(labels, np.r_[x, y], sample_weight=np.r_[w, v])
    assert found.value == pytest.approx(expected, abs=1e-12)
    repeated = auroc(np.repeat(x, w.astype(int)), np.repeat(y, v.astype(int)))
    assert found.value == pytest.approx(repeated.value, abs=1e-12)
    # Repeats tell nothing new: the interval is wider than theirs.
    assert found.upper - found.lower > repeated.upper - repeated.lower


def test_equal_weights_change_nothing() -> None:
    x, y, _, _ = sample(1)
    weights = {"member_weights": np.full(len(x), 0.3), "nonmember_weights": np.full(len(y), 2.0)}
    plain, weighted = auroc(x, y), auroc(x, y, **weights)
    for name in ("value", "lower", "upper"):
        assert getattr(weighted, name) == pytest.approx(getattr(plain, name), abs=1e-12)
    swap = swap_estimate(x, y, y.mean() + x, y)
    again = swap_estimate(x, y, y.mean() + x, y, **weights)
    assert (again.value, again.lower) == pytest.approx((swap.value, swap.lower), abs=1e-9)
    assert auroc(x + 99, y, member_weights=x + 99, nonmember_weights=y + 99).value == 1.0


def test_the_variance_is_that_of_clusters_of_repeats() -> None:
    x, y, w, v = sample(2)
    both = [np.repeat(x, w.astype(int)), np.repeat(y, v.astype(int))]
    ids = [np.repeat(np.arange(len(x)), w.astype(int)), 1000 + np.repeat(range(30), v.astype(int))]
    clustered = rank_statistics(both[0][None], both[1][None], *ids)
    kept = w > 0
    found = rank_statistics(x[kept][None], y[None], None, None, w[kept], v)
    # Both divide by units less one, but count units differently: clusters, or the effective number.
    assert found.covariance[0, 0] == pytest.approx(clustered.covariance[0, 0], rel=0.02)
    assert found.covariance[0, 0] >= clustered.covariance[0, 0]
    assert found.units == int(min(w.sum() ** 2 / (w**2).sum(), v.sum() ** 2 / (v**2).sum()))


def test_intervals_of_weighted_records_cover() -> None:
    """Half of the members count thrice: two kinds of records, of which one scores higher."""
    rng = np.random.default_rng(3)
    n, hits = 60, 0
    truth = np.average([stats.norm.cdf(shift / 2**0.5) for shift in (1.0, 0.2)], weights=[3, 1])
    weights = np.where(np.arange(n) < n // 2, 3.0, 1.0)
    for _ in range(300):
        x = rng.normal(size=n) + np.where(np.arange(n) < n // 2, 1.0, 0.2)
        found = auroc(x, rng.normal(size=n), member_weights=weights)
        hits += found.lower <= truth <= found.upper
    assert hits >= 0.92 * 300


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [np.nan, 1.0], [0.0, 0.0]])
def test_weights_that_are_none_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="member_weights"):
        auroc([1.0, 2.0], [0.0], member_weights=weights)
