"""Risk at equal utility: a technique that has learnt less also leaks less

Utility is the negative log-likelihood of responses that no run trains on. Risk is read off each
student's curve over checkpoints where it first comes down to the utility that the least useful of
the compared techniques ever reaches.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import pandas as pd

from studies.claims.figures import GAP_PARAMS, StudyFigures
from studies.compare.memorization import PRIVATE, TOKEN_ACCURACY
from studies.plan.cells import Cell
from studies.plan.stages import INIT_OPTION

BEYOND = "starts beyond the utility that all techniques reach"
Curve = list[tuple[float, float]]
"""Utility in nats and risk, checkpoint by checkpoint."""


def risk_at(curve: Curve, utility: float) -> float | None:
    """Returns the risk where a curve first comes down to a utility, linear in between.

    Args:
        curve: Checkpoints in the order of training.
        utility: Negative log-likelihood in nats.

    Returns:
        The risk; None where the curve starts below the utility or never reaches it.

    >>> risk_at([(6.0, 0.5), (5.0, 0.7), (5.5, 0.8)], 5.5), risk_at([(6.0, 0.5)], 5.5)
    (0.6, None)
    """
    for (before, risk), (after, next_risk) in pairwise(curve):
        if before >= utility >= after:
            share = (before - utility) / (before - after) if before > after else 0.0
            return risk + share * (next_risk - risk)
    return curve[0][1] if curve and curve[0][0] == utility else None


def matched_figures(
    figures: StudyFigures, curve_of: Callable[[StudyFigures, Cell, Cell], Curve]
) -> dict[str, float | str | None]:
    """Returns every student's risk at the utility common to its family, size, replicate and seed.

    Args:
        figures: The study.
        curve_of: Risk over checkpoints of a student and its counterfactual.

    Returns:
        By alias: the risk; None where the student starts beyond that utility; or why there is none.
    """
    matched: dict[str, float | str | None] = {}
    for cells in figures.compared_students():
        curves: dict[str, Curve] = {}
        for cell in cells:
            pair = figures.pair(cell)
            if isinstance(pair, str):
                matched[cell.alias] = pair
            elif curve := curve_of(figures, *pair):
                curves[cell.alias] = curve
            else:
                matched[cell.alias] = f"{cell.alias}: no utility beside the risk"
        matched |= at_common_utility(curves)
    return matched


def at_common_utility(curves: Mapping[str, Curve]) -> dict[str, float | None]:
    """Returns the risk of each curve at the lowest utility that all of them reach.

    None where a curve starts beyond it.
    """
    if not curves:
        return {}
    utility = max(min(point[0] for point in curve) for curve in curves.values())
    return {alias: risk_at(curve, utility) for alias, curve in curves.items()}


def membership_curve(figures: StudyFigures, cell: Cell, other: Cell) -> Curve:
    """Returns the swap estimate (A + 1 - B)/2 at every checkpoint with utility."""
    name, params = figures.attack
    where = {"population": PRIVATE, "name": name, "params": params, "task": None, "block": None}
    ours, theirs = (_by_step(figures.rows(one, "auroc", where)) for one in (cell, other))
    swaps = {step: (ours[step] + 1.0 - theirs[step]) / 2.0 for step in ours if step in theirs}
    return _curve(figures, cell, swaps, 0.5)


def memorization_curve(figures: StudyFigures, cell: Cell, other: Cell) -> Curve:
    """Returns the excess of the gap in token accuracy at every checkpoint with utility."""
    where = {"population": PRIVATE, "name": TOKEN_ACCURACY, "params": GAP_PARAMS, "task": None}
    gap = f"{TOKEN_ACCURACY}_gap"
    ours, theirs = (_by_step(figures.rows(one, gap, where)) for one in (cell, other))
    excesses = {step: ours[step] - theirs[step] for step in ours if step in theirs}
    return _curve(figures, cell, excesses, 0.0)


def _curve(figures: StudyFigures, cell: Cell, risks: Mapping[int, float], start: float) -> Curve:
    """Adds utility; a student that starts from an init run starts where that run ended.

    There it is its counterfactual's equal, weight for weight, so that nothing is inherited yet.
    """
    utility = _nll(figures, cell)
    curve = [(utility[step], risks[step]) for step in sorted(risks) if step in utility]
    if not curve:
        return []
    initial = [one for one in figures.plan.cells if one.id in cell.needs.get(INIT_OPTION, ())]
    for one in initial:
        before = _nll(figures, one) if one.role == "init" else {}
        curve = [(before[step], start) for step in sorted(before)[-1:]] + curve
    return curve


def _nll(figures: StudyFigures, cell: Cell) -> dict[int, float]:
    rows = figures.rows(cell, "perplexity", {"population": "never", "task": None})
    return {step: math.log(value) for step, value in _by_step(rows).items()}


def _by_step(rows: pd.DataFrame) -> dict[int, float]:
    steps: Sequence[int] = [int(step) for step in rows["step"]]
    return dict(zip(steps, rows["value"].astype(float), strict=True))
