"""The bound on mu against another implementation of its paper, and against known mechanisms."""

import csv

import numpy as np
import pytest

from audits.statistics.one_run_mu import mu_lower_bound, rejected
from tests.audits.statistics.one_run_mu_oracle import ORACLE

with ORACLE.open() as file:
    KNOWN = list(csv.DictReader(file))


def gaussian_scores(mu: float, units: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Scores of a mechanism that is exactly mu-Gaussian-private for every unit."""
    included = rng.random(units) < 0.5
    scores = rng.normal(mu * included)
    return scores[included], scores[~included]


@pytest.mark.parametrize("known", KNOWN, ids=lambda row: f"{row['right']} of {row['guesses']}")
def test_the_largest_mu_that_is_rejected_is_that_of_the_other_implementation(known):
    counts = (int(known["guesses"]), int(known["right"]), int(known["units"]), float(known["tail"]))
    mu = float(known["mu"])
    assert not rejected(mu + 3e-4, *counts)
    assert mu < 1e-3 or rejected(mu - 3e-4, *counts)


def test_bound_exceeds_the_truth_in_at_most_the_level():
    """At 5%, 200 draws give more than 17 wrong bounds in 1.4% of right tests."""
    for mu in (0.0, 1.0):
        rng = np.random.default_rng(7)
        bounds = [mu_lower_bound(*gaussian_scores(mu, 200, rng)).value for _ in range(200)]
        assert sum(bound > mu for bound in bounds) <= 17


def test_bound_nears_the_truth_with_many_coins():
    rng = np.random.default_rng(1)
    found = mu_lower_bound(*gaussian_scores(3.0, 50_000, rng), guesses=[(3000, 3000)])
    assert 2.2 < found.value <= 3.0
    assert found.guesses == 6000


def test_noise_gives_nothing():
    rng = np.random.default_rng(2)
    assert mu_lower_bound(*gaussian_scores(0.0, 300, rng)).value == 0.0


def test_no_noise_gives_much():
    found = mu_lower_bound(np.ones(200), np.zeros(200), guesses=[(100, 100)])
    assert found.value > 1.5
    assert found.correct == found.guesses == 200
