"""The smallest number of samples, against a search by counting and Python's whole numbers."""

import math
from fractions import Fraction

import numpy as np
import pytest

from audits.memorization.metrics.n_p_extraction import NPExtraction, samples_needed


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("p_z", [1.0, 0.99, 0.5, 0.25, 0.1, 0.03, 0.001])
def test_equals_counting_up(p: float, p_z: float) -> None:
    n = 1
    while 1 - (1 - Fraction(p_z)) ** n < Fraction(p):
        n += 1
    assert samples_needed([math.log(p_z)], p).tolist() == [n]


def test_tiny_probabilities_keep_their_order() -> None:
    logs = np.array([-30.0, -60.0, -600.0, -800.0, -math.inf])
    needed = samples_needed(logs, 0.5)
    np.testing.assert_allclose(needed[:3], math.log(2) / np.exp(logs[:3]), rtol=1e-9)
    assert needed[3:].tolist() == [math.inf, math.inf]


def test_a_whole_bound_is_not_rounded_up() -> None:
    assert samples_needed([math.log(0.5)], 0.75).tolist() == [2]
    assert samples_needed([math.log(0.1)], 0.1).tolist() == [1]


def test_rates_rise_with_n_and_fall_with_p() -> None:
    metric = NPExtraction(samples=[1, 10, 100])
    logs = np.log([0.5, 0.05, 0.005, 1e-9])
    rates = {
        (one.params["p"], one.params["n"]): one.values.mean()
        for one in metric.summaries(logs)
        if one.metric == "extraction_rate"
    }
    assert rates[0.1, 1] == 0.25
    assert rates[0.1, 10] == 0.5
    assert rates[0.1, 100] == 0.75
    assert rates[0.9, 1] == 0.0
    assert rates[0.9, 100] == 0.5
    (single,) = (one for one in metric.summaries(logs) if one.metric == "extraction_probability")
    np.testing.assert_allclose(single.values, [0.5, 0.05, 0.005, 1e-9])
