"""ROC curves: their points, and those of all attacks of a checkpoint as a figure."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

LOWEST_RATE = 1e-3
_MANY = 8
_CELLS = 2000  # along an axis: some for every dot of a printed page


def roc_points(
    members: NDArray[np.float64], nonmembers: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns false- and true-positive rates at every threshold, from (0, 0) to (1, 1).

    Tied scores are passed together, so that no point of the curve depends on their order.

    Args:
        members: [n] scores.
        nonmembers: [m] scores.

    Returns:
        Two arrays of equal length, non-decreasing.
    """
    thresholds = np.unique(np.concatenate([members, nonmembers]))[::-1]
    rates = [
        (scores.size - np.searchsorted(np.sort(scores), thresholds)) / scores.size
        for scores in (nonmembers, members)
    ]
    return np.concatenate([[0.0], rates[0]]), np.concatenate([[0.0], rates[1]])


def roc_figure(
    scores: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]], title: str
) -> Figure:
    """Draws ROC curves on linear and on logarithmic axes.

    Args:
        scores: Members' and non-members' scores by attack.
        title: What was audited.

    Returns:
        A figure with two panels; the diagonal is an attacker who guesses.
    """
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    linear, logarithmic = figure.subplots(1, 2)
    for attack, (members, nonmembers) in scores.items():
        rates = np.stack(roc_points(members, nonmembers))
        linear.step(*_visible(rates, rates), where="post", label=attack)
        np.maximum(rates, LOWEST_RATE, out=rates)
        shares = np.log10(rates) / -np.log10(LOWEST_RATE)
        logarithmic.step(*_visible(rates, shares), where="post", label=attack)
    for panel in (linear, logarithmic):
        panel.plot([LOWEST_RATE, 1], [LOWEST_RATE, 1], color="0.6", linestyle="--", linewidth=1)
        panel.set_xlabel("false-positive rate")
        panel.set_ylabel("true-positive rate")
    logarithmic.set_xscale("log")
    logarithmic.set_yscale("log")
    linear.legend(loc="lower right", fontsize="small" if len(scores) > _MANY else None)
    figure.suptitle(title)
    return figure


def _visible(rates: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leaves out points that a panel would draw where it drew the one before.

    What a figure holds then does not grow with the number of records.

    Args:
        rates: [2, n] points of a curve.
        shares: [2, n] where they lie, in lengths of the panel's axes.

    Returns:
        [2, k] the first point, the last one, and each that enters another cell.
    """
    cells = np.floor(shares * _CELLS)
    kept = np.ones(rates.shape[1], dtype=bool)
    kept[1:-1] = (cells[:, 1:-1] != cells[:, :-2]).any(axis=0)
    return rates[:, kept]
