"""The simulation of bounds on mu pays for looks, and its target can be missed."""

import numpy as np

from benchmarks.simulate_mu import Setting, line


def test_a_bound_nears_the_truth_and_pays_for_looks() -> None:
    one, paid = (Setting(3.0, 400, attacks=1, paid=looks) for looks in (1, 8))
    found, less = (setting.largest(np.random.default_rng(0)) for setting in (one, paid))
    assert 0.5 < less < found < 3.0


def test_a_target_is_missed_from_36_of_500_on() -> None:
    setting = Setting(1.0, 400, attacks=1, paid=1)
    counts = {above: line(setting, [2.0] * above + [0.5] * (500 - above)) for above in (35, 36)}
    assert counts[35].endswith("| 35 (0.070) | 0.605 | <= 35 | yes |")
    assert counts[36].endswith("| 36 (0.072) | 0.608 | <= 35 | NO |")
    unpaid = Setting(1.0, 400, attacks=4, paid=1)
    assert line(unpaid, [2.0]).endswith("| not to be met | - |")
