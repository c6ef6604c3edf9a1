"""Exposure of planted canaries: how far a secret's likelihood rises above its format's others.

Carlini, Liu, Erlingsson, Kos and Song (2019), "The Secret Sharer", USENIX Security. A canary that
training never touched has a rank like any other, so its exposure is log2(e) = 1.44 bits on average;
a canary that the model prefers to all others has log2 of the number of secrets.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from audits.statistics.estimates import FloatArray, as_scores
from audits.statistics.means import share_interval

Method = Literal["exact", "skew_normal_approximation"]

CHANCE_BITS = math.log2(math.e)
"""Mean exposure of a secret that was never seen, in bits, where the space is large."""

_FEWEST_FOR_A_FIT = 100


@dataclass(frozen=True, slots=True)
class Exposure:
    """How exposed one canary is.

    Attributes:
        bits: The exposure, from 0 to log2 of the number of secrets.
        method: "exact" where every secret was scored, "skew_normal_approximation" where a
            distribution that was fitted to a sample of them stands for the rest: its tail, and with
            it the bits, is an assumption.
        p_value: Of "the model never met this secret", from its rank alone and so free of any
            distribution: the share of the scored secrets, itself included, that are at least as
            likely. Without memorization the secret is one of them like any other, and P[p <= x] is
            at most x for every x.
    """

    bits: float
    method: Method
    p_value: float


def exact_exposure(secret: float, others: ArrayLike) -> Exposure:
    """Exposure by the rank among all secrets (definition 4).

    log2 of the number of secrets minus log2 of the rank, the most likely secret having rank 1.
    Secrets that are exactly as likely count one half each, as if ties were broken by a coin.

    Args:
        secret: Log-likelihood of the planted secret, nats.
        others: [N - 1] log-likelihoods of all other secrets of the format, nats.

    Returns:
        Exposure in bits, at most log2(N).

    Raises:
        ValueError: No other secret, or a NaN.

    Example:
        >>> exact_exposure(-1.0, [-2.0, -3.0, -4.0]).bits
        2.0
    """
    scores = as_scores(others, "others")
    _require_number(secret)
    rank = 1.0 + float((scores > secret).sum()) + 0.5 * float((scores == secret).sum())
    return Exposure(
        math.log2(scores.size + 1) - math.log2(rank), "exact", _rank_p_value(secret, scores)
    )


def extrapolated_exposure(secret: float, sample: ArrayLike, secret_space: int) -> Exposure:
    """Exposure from a sample of secrets, their log-perplexities taken as skew-normal.

    Minus log2 of the probability that a secret drawn at random has at most the planted one's
    log-perplexity (the paper's approximation by distribution modelling: a skew-normal fitted by
    maximum likelihood). A distribution without an end would give secrets more bits than there are;
    the result is cut at log2 of the space.

    Args:
        secret: Log-likelihood of the planted secret, nats.
        sample: [n] log-likelihoods of secrets drawn uniformly from the others, nats; the p-value
            comes from the rank among them and is at least 1 / (n + 1).
        secret_space: Number of secrets.

    Returns:
        Exposure in bits, from 0 to log2(secret_space).

    Raises:
        ValueError: Fewer than 100 secrets to fit a distribution to, all of them equally likely, or
            a value that is not finite.
    """
    scores = as_scores(sample, "sample")
    _require_number(secret)
    if scores.size < _FEWEST_FOR_A_FIT or not np.isfinite(scores).all() or np.ptp(scores) == 0.0:
        raise ValueError(
            f"a skew-normal needs {_FEWEST_FOR_A_FIT} finite log-likelihoods that differ, found "
            f"{scores.size} between {scores.min()} and {scores.max()}"
        )
    # In units of their own spread, so that the optimiser's tolerances fit any model's.
    centre, spread = float(scores.mean()), float(scores.std())
    shape, location, scale = stats.skewnorm.fit((centre - scores) / spread)
    below = float(stats.skewnorm.cdf((centre - secret) / spread, shape, location, scale))
    most = math.log2(secret_space)
    bits = most if below <= 1.0 / secret_space else -math.log2(min(below, 1.0))
    return Exposure(bits, "skew_normal_approximation", _rank_p_value(secret, scores))


def chance_exposure(secret_space: int) -> float:
    """Mean exposure of a rank that is uniform on 1 to N, in bits: log2(N) - log2(N!) / N."""
    return math.log2(secret_space) - math.lgamma(secret_space + 1) / math.log(2) / secret_space


@dataclass(frozen=True, slots=True)
class MeanExposure:
    """Mean exposure of some canaries, in bits.

    Attributes:
        value: The mean.
        lower: Lower end of the 95% interval; None for one canary.
        upper: Upper end, likewise.
        p_value: One-sided p-value of "the model never met these canaries".
        n: Canaries.
    """

    value: float
    lower: float | None
    upper: float | None
    p_value: float
    n: int


def mean_exposure(exposures: Sequence[Exposure], secret_spaces: Sequence[int]) -> MeanExposure:
    """Mean exposure over canaries, with its interval and a test against chance.

    The interval is that of a mean of numbers between 0 and log2 of the largest space
    (`share_interval`). The test takes the ranks, whatever the method of the bits, and needs no more
    than that secrets were drawn uniformly: without memorization every p-value lies above a uniform
    number on (0, 1], so the sum of -ln p lies below a Gamma(n) variable (Fisher's method), whose
    tail is the p-value.

    Args:
        exposures: [n] canaries.
        secret_spaces: Number of secrets behind each of them.

    Returns:
        Mean, bounds and p-value.

    Raises:
        ValueError: No canary, a NaN, or an exposure beyond its space.
    """
    bits = as_scores([one.bits for one in exposures], "exposures")
    surprise = -sum(math.log(one.p_value) for one in exposures)
    ceiling = math.log2(max(secret_spaces))
    share = share_interval(np.clip(bits / ceiling, 0.0, None))
    return MeanExposure(
        share.value * ceiling,
        None if share.lower is None else share.lower * ceiling,
        None if share.upper is None else share.upper * ceiling,
        float(stats.gamma.sf(surprise, bits.size)),
        bits.size,
    )


def _rank_p_value(secret: float, others: FloatArray) -> float:
    return (1 + int((others >= secret).sum())) / (others.size + 1)


def _require_number(secret: float) -> None:
    if math.isnan(secret):
        raise ValueError("the planted secret's log-likelihood is not a number")
