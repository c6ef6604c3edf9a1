"""The noise's tail: normal for normal scores, heavy for heavy ones, and its own error."""

import math
import statistics

import numpy as np
import pytest
from scipy import special, stats

from audits.tail.moderation import moderated
from audits.tail.noise import Noise, pooled_noise, separation_found, standard_scores
from benchmarks.planted_worlds import planted


def test_standard_scores_equal_a_loop() -> None:
    found = planted(np.random.default_rng(31), 25, 8, 1.0)
    fit, own = moderated(found), standard_scores(moderated(found))
    d0, s0 = fit.prior_degrees, fit.prior_variance
    for record in range(25):
        for world in range(8):
            coin = found.met[world, record]
            # The residuals hold each side's mean of 0: take one out, and its side has a new mean.
            side = fit.residuals[found.met[:, record] == coin, record].tolist()
            side.remove(fit.residuals[world, record])
            others = fit.residuals[found.met[:, record] != coin, record].tolist()
            mean = statistics.fmean(side)
            squares = sum((x - mean) ** 2 for x in side) + sum(x**2 for x in others)
            variance = (d0 * s0 + squares) / (d0 + 5)
            distance = fit.residuals[world, record] - mean
            t = distance / math.sqrt(variance * (1.0 + 1.0 / 3.0))
            expected = stats.norm.ppf(stats.t.cdf(t, 5 + d0))
            assert own[world, record] == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("worlds", [4, 16])
def test_normal_scores_are_normal_whatever_the_worlds(worlds: int) -> None:
    z = standard_scores(moderated(planted(np.random.default_rng(32), 20_000 // worlds, worlds)))
    assert z.std() == pytest.approx(1.0, abs=0.03)
    assert (np.abs(z) > 3.09).mean() == pytest.approx(0.002, abs=0.001)


def test_a_tail_is_continued_beyond_its_scores() -> None:
    """Against the exact tail of exponential squares; an error is the spread over samples."""
    squares = stats.expon.isf((np.arange(2_000) + 0.5) / 2_000)
    exact = Noise(np.sort(np.sqrt(squares)), 1e6)
    assert exact.upper_point(0.0001) ** 2 == pytest.approx(-math.log(0.0001), rel=0.02)
    error = exact.upper_point(0.0001, 1.0) ** 2 - exact.upper_point(0.0001) ** 2
    rng = np.random.default_rng(33)
    points = [
        Noise(np.sort(np.sqrt(rng.exponential(size=2_000))), 1e6).upper_point(0.0001) ** 2
        for _ in range(400)
    ]
    assert np.std(points) == pytest.approx(error, rel=0.15)


@pytest.mark.parametrize("degrees", [6.0, 1e6])
def test_a_normal_tail_is_normal_whatever_deviations_it_was_divided_by(degrees: float) -> None:
    normal = Noise(special.ndtri((np.arange(4_000) + 0.5) / 4_000), degrees)
    assert normal.upper_point(0.001) == pytest.approx(3.09, abs=0.05)
    assert normal.upper_point(0.1) == pytest.approx(1.2816, abs=0.01)


@pytest.mark.parametrize(("degrees", "wide"), [(np.inf, 0.0), (5.0, 0.5)])
def test_the_separation_that_is_found_is_that_of_the_true_noise(
    degrees: float, wide: float
) -> None:
    noise = stats.norm if math.isinf(degrees) else stats.t(degrees, scale=0.6**0.5)
    truth = float(noise.isf(0.001) - noise.isf(0.1))
    # A normal would say 1.81, whatever the scores are.
    assert truth >= 1.80 + wide
    values = []
    for seed in range(20):
        rng = np.random.default_rng([34, seed])
        pool = planted(rng, 360, 16, degrees=degrees)
        pooled = pooled_noise(pool, planted(rng, 120, 16, degrees=degrees))
        values.append(separation_found(pooled, 0.1, 0.001))
        assert separation_found(pooled, 0.1, 0.001, -2.0) < values[-1]
        assert separation_found(pooled, 0.1, 0.001, 2.0) > values[-1]
    assert statistics.fmean(values) == pytest.approx(truth, abs=0.1 + 0.8 * wide)
