"""What a figure of many records shows and holds."""

import numpy as np
import pytest

from audits.membership.roc import roc_figure, roc_points


def logarithmic_share(rate: np.ndarray) -> np.ndarray:
    """Where a rate lies on an axis from 0.001 to 1."""
    return 1 + np.log10(np.maximum(rate, 1e-3)) / 3


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_a_figure_of_many_records_holds_few_points_of_the_whole_curve(shift: float) -> None:
    rng = np.random.default_rng(0)
    members, nonmembers = rng.normal(shift, 1.0, 60_000), rng.normal(0.0, 1.0, 60_000)
    figure = roc_figure({"loss": (members, nonmembers)}, "title")
    fpr, tpr = roc_points(members, nonmembers)
    for panel, share in zip(figure.axes, (lambda rate: rate, logarithmic_share), strict=True):
        x, y = (np.asarray(values) for values in panel.lines[0].get_data())
        assert x.size <= 2 + 2 * 2000, "a monotone curve enters no more cells"
        assert (x[0], y[0], x[-1], y[-1]) == pytest.approx((fpr[0], tpr[0], 1.0, 1.0), abs=1e-3)
        # Wherever the whole curve is, a drawn point is less than a thousandth of the axes away.
        for place in range(0, fpr.size, 97):
            across, up = share(x) - share(fpr[place]), share(y) - share(tpr[place])
            assert np.maximum(abs(across), abs(up)).min() < 1e-3


def test_a_figure_of_few_records_holds_every_point() -> None:
    members, nonmembers = np.arange(9.0), np.arange(7.0) - 0.5
    figure = roc_figure({"loss": (members, nonmembers)}, "title")
    fpr, tpr = roc_points(members, nonmembers)
    x, y = figure.axes[0].lines[0].get_data()
    assert np.array_equal(x, fpr)
    assert np.array_equal(y, tpr)
