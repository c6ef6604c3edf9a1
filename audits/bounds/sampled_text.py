"""Bounds for sampled text that a student read and nothing else: on average, and for one record.

Both need draws that nobody can repeat. Statements and proofs stand in docs/defences.md.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from audits.bounds.ceilings import accuracy_ceiling
from audits.statistics import Estimate, auroc
from audits.statistics.replication import ReplicateEstimate, replicate_mean

FEWEST_WORLDS = 5
VACUOUS = 0.99
"""AUROC above which a ceiling says nothing."""


@dataclass(frozen=True)
class TextBound:
    """What the text of teachers tells of their coins.

    Attributes:
        nats_per_unit: Information per audited unit, a mean over worlds.
        nats_per_token: The same per token written.
        accuracy_upper: Highest expected share of coins guessed right, at the upper end of the
            information's interval; None below five worlds that are independent.
        query_budget: Tokens from which the bound says nothing, n ln 2 / (nats per token).
    """

    nats_per_unit: ReplicateEstimate
    nats_per_token: float
    accuracy_upper: float | None
    query_budget: float


def text_bound(nats: ArrayLike, tokens: ArrayLike, units: int) -> TextBound:
    """Bounds the guesses of anybody who read all text that a teacher wrote, on average over worlds.

    Args:
        nats: [W] what each world's teacher told by everything that it wrote, the sum of KL(T || Q)
            over its tokens; a mean over worlds whose coins follow from each other counts as one.
        tokens: [W] tokens that it wrote.
        units: Audited clusters of each world, n.

    Raises:
        ValueError: No units, or not one number of nats and tokens for each world.
    """
    found, written = (np.asarray(one, np.float64) for one in (nats, tokens))
    if units < 1 or found.ndim != 1 or found.shape != written.shape or written.sum() <= 0:
        raise ValueError(
            "expected nats and tokens of each world and at least one unit, found "
            f"{found.shape} and {written.shape} of {units} units"
        )
    a_token = float(found.sum() / written.sum())
    if not np.isfinite(found).all():
        whole = ReplicateEstimate(math.inf, -math.inf, math.inf, len(found), math.nan)
        return TextBound(whole, math.inf, None if len(found) < FEWEST_WORLDS else 1.0, 0.0)
    each = replicate_mean(found / units)
    # Where no text told anything, worlds have no spread to tell by, and need none.
    most = max(0.0, each.upper) if found.any() else 0.0
    upper = accuracy_ceiling(most) if len(found) >= FEWEST_WORLDS else None
    budget = math.inf if a_token == 0.0 else units * math.log(2.0) / a_token
    return TextBound(each, a_token, upper, budget)


@dataclass(frozen=True)
class InstanceCeiling:
    """What text tells of one record, to an attacker who has the weights with it and without.

    Attributes:
        highest: AUROC of the likelihood ratio, the best test of the text.
        vacuous: Whether it may lie above 0.99, so that it says nothing.
    """

    highest: Estimate
    vacuous: bool


def instance_ceiling(with_record: ArrayLike, without_record: ArrayLike) -> InstanceCeiling:
    """Bounds every test of a student that read the text alone, for one record and these weights.

    The second teacher keeps the order, batches and seeds of the first, the record's weight 0.

    Args:
        with_record: [n] log P(Y) - log P'(Y) of texts that the teacher wrote, P its likelihood and
            P' that of the teacher without the record.
        without_record: [m] the same of texts that the other one wrote.
    """
    found = auroc(with_record, without_record)
    return InstanceCeiling(found, found.upper > VACUOUS)
