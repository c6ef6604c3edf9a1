"""Privacy loss of Poisson-sampled Gaussian noise over many steps, on the safe side throughout."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, signal, stats

_TAIL = 1e-16
_CUT = 1e-13
_EXACT = 1e-12
_GRID_OF_SPREAD = 0.01
_FINEST_GRID = 1e-6
_PROBED = 4001
_LOG_NOISE = 5e-4
_SMALLEST_NOISE, _LARGEST_NOISE = 0.05, 1e3

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SampledGaussian:
    """Training by noisy sums: steps that each draw every unit independently and add noise once.

    Attributes:
        rate: Chance of a unit to be drawn in a step, in (0, 1].
        noise: Standard deviation of the noise in units of the clipping norm (sigma).
        steps: Steps that were taken.
    """

    rate: float
    noise: float
    steps: int

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1.0:
            raise ValueError(f"a sampling rate lies in (0, 1], found {self.rate}")
        if not (self.noise > 0.0 and math.isfinite(self.noise)):
            raise ValueError(f"the noise must be positive and finite, found {self.noise}")
        if self.steps < 1:
            raise ValueError(f"at least one step is accounted for, found {self.steps}")


@dataclass(frozen=True)
class PrivacyLoss:
    """Distribution of log P(x)/Q(x) for x drawn from P, on a grid and on the safe side.

    Losses are only ever spread or moved up, which makes P easier to tell from Q: what is read from
    it (`delta`, `power`) is not below the truth.

    Attributes:
        step: Distance of the grid's points, in nats.
        first: The lowest loss, in steps.
        masses: P's mass at each loss from the lowest on [n].
        infinite: P's mass where Q has none.
    """

    step: float
    first: int
    masses: Floats
    infinite: float

    @property
    def losses(self) -> Floats:
        """The losses in nats [n], ascending."""
        return np.arange(self.first, self.first + len(self.masses), dtype=np.float64) * self.step

    def composed(self, times: int) -> "PrivacyLoss":
        """The loss of that many independent repetitions, by squaring."""
        result: PrivacyLoss | None = None
        power = self
        while times:
            if times & 1:
                result = power if result is None else result.then(power)
            times >>= 1
            if times:
                power = power.then(power)
        if result is None:
            raise ValueError("at least one repetition is composed")
        return result

    def then(self, other: "PrivacyLoss") -> "PrivacyLoss":
        """The loss of one mechanism after another."""
        masses = np.maximum(signal.fftconvolve(self.masses, other.masses), 0.0)
        infinite = 1.0 - (1.0 - self.infinite) * (1.0 - other.infinite)
        return _without_tails(self.step, self.first + other.first, masses, infinite)

    def delta(self, epsilon: float) -> float:
        """The smallest delta at which P stays within e^epsilon of Q."""
        above = self.losses > epsilon
        excess = -np.expm1(epsilon - self.losses[above])
        return float(self.infinite + self.masses[above] @ excess)

    def epsilon(self, delta: float) -> float:
        """The smallest epsilon, in nats and at least 0, that holds at this delta; may be infinite.

        Raises:
            ValueError: A delta outside (0, 1).
        """
        if not 0.0 < delta < 1.0:
            raise ValueError(f"delta lies in (0, 1), found {delta}")
        if self.delta(0.0) <= delta:
            return 0.0
        if self.infinite >= delta:
            return math.inf
        highest = float(self.losses[-1])
        return float(optimize.brentq(lambda e: self.delta(e) - delta, 0.0, highest, xtol=1e-9))

    def power(self, level: float) -> float:
        """The highest chance of accepting P's draws of any test that accepts Q's at this level.

        Args:
            level: False positive rate, in [0, 1].
        """
        false_positives, true_positives = self.operating_points
        return float(np.interp(level, false_positives, true_positives))

    @cached_property
    def operating_points(self) -> tuple[Floats, Floats]:
        """Corners of the concave curve of the best tests: false and true positive rates [n + 2]."""
        from_p = self.infinite + np.cumsum(self.masses[::-1])
        from_q = np.cumsum((self.masses * np.exp(-self.losses))[::-1])
        false_positives = np.concatenate([[0.0], np.minimum(from_q, 1.0), [1.0]])
        true_positives = np.concatenate([[self.infinite], np.minimum(from_p, 1.0), [1.0]])
        return false_positives, true_positives


def removal_loss(training: SampledGaussian) -> PrivacyLoss:
    """Loss of telling that a unit took part (P) from that it did not (Q)."""
    return _step_loss(training, took_part=True).composed(training.steps)


def addition_loss(training: SampledGaussian) -> PrivacyLoss:
    """Loss of telling that a unit did not take part (P) from that it did (Q)."""
    return _step_loss(training, took_part=False).composed(training.steps)


def epsilon_of(training: SampledGaussian, delta: float) -> float:
    """Epsilon in nats under adding or removing a unit, at this delta."""
    return max(removal_loss(training).epsilon(delta), addition_loss(training).epsilon(delta))


def noise_for(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """The smallest noise (sigma, to 0.1%) with which training keeps to a target.

    Args:
        epsilon: Target in nats, positive.
        delta: Target, in (0, 1).
        rate: Chance of a unit to be drawn in a step.
        steps: Optimiser steps of the training.

    Raises:
        ValueError: A target that no noise up to 1,000 clipping norms reaches.
    """
    if not epsilon > 0.0:
        raise ValueError(f"a target epsilon is positive, found {epsilon}")

    def excess(log_noise: float) -> float:
        spent = epsilon_of(SampledGaussian(rate, math.exp(log_noise), steps), delta)
        return min(spent, 2.0 * epsilon + 1.0) - epsilon

    lower = upper = 0.0
    while excess(upper) > 0.0:
        lower, upper = upper, upper + math.log(2.0)
        if math.exp(upper) > _LARGEST_NOISE:
            raise ValueError(
                f"no noise up to {_LARGEST_NOISE:g} clipping norms gives epsilon {epsilon} at "
                f"delta {delta:.2g} in {steps} steps at rate {rate:.3g}"
            )
    while excess(lower) <= 0.0:
        lower, upper = lower - math.log(2.0), lower
        if math.exp(lower) < _SMALLEST_NOISE:
            return math.exp(upper)
    root = optimize.brentq(excess, lower, upper, xtol=_LOG_NOISE)
    while excess(root) > 0.0:
        root += _LOG_NOISE
    return math.exp(root)


def _step_loss(training: SampledGaussian, took_part: bool) -> PrivacyLoss:
    """Loss of one step, by connecting the dots (Doroshenko et al. 2022, arXiv 2207.04380).

    Each stretch between two grid points gives its mass under P and its mass under Q to its two
    ends. Both sums stay, only the ratio is spread, so the curve of delta over e^epsilon is exact
    at the grid points and joined by chords above the truth between them.
    """
    ends, step = _grid(training, took_part)
    from_p, from_q = _cumulative(training, ends, took_part)
    p, q = np.diff(from_p), np.diff(from_q)
    upper = (p - q * np.exp(ends[:-1])) / -math.expm1(-step)
    # Where rounding of the two sums would decide the share, all of it moves up.
    upper = np.where(p > _EXACT, np.clip(upper, 0.0, p), p)
    masses = np.append(p - upper, 0.0) + np.append(from_p[0], upper)
    return _without_tails(step, round(ends[0] / step), masses, max(0.0, 1.0 - from_p[-1]))


def _grid(training: SampledGaussian, took_part: bool) -> tuple[Floats, float]:
    """Grid of the losses of one step, fine beside their spread: its points [n], and their step."""
    reach = training.noise * stats.norm.isf(_TAIL)
    x = np.linspace(-reach, 1.0 + reach, _PROBED)
    log_ratio = np.logaddexp(
        np.log1p(-training.rate) if training.rate < 1.0 else -np.inf,
        math.log(training.rate) + (2.0 * x - 1.0) / (2.0 * training.noise**2),
    )
    losses = log_ratio if took_part else -log_ratio
    weights = stats.norm.pdf(x, 0.0, training.noise)
    if took_part:
        weights = weights * np.exp(log_ratio)
    weights = weights / weights.sum()
    spread = math.sqrt(weights @ (losses - weights @ losses) ** 2)
    step = max(_FINEST_GRID, _GRID_OF_SPREAD * spread)
    points = np.arange(math.floor(losses.min() / step), math.ceil(losses.max() / step) + 1)
    return points * step, step


def _cumulative(
    training: SampledGaussian, losses: Floats, took_part: bool
) -> tuple[Floats, Floats]:
    """Chance of a loss up to each of these [n], under P and under Q."""
    rate, noise = training.rate, training.noise
    log_ratio = losses if took_part else -losses
    with np.errstate(divide="ignore", invalid="ignore"):
        # log(e^l - (1 - rate)), without overflow of either sign.
        above = np.where(
            log_ratio > 0.0,
            log_ratio + np.log1p(-(1.0 - rate) * np.exp(-np.abs(log_ratio))),
            np.log(np.maximum(np.exp(np.minimum(log_ratio, 0.0)) - (1.0 - rate), 0.0)),
        )
    x = noise**2 * (above - math.log(rate)) + 0.5
    chance = stats.norm.cdf if took_part else stats.norm.sf
    out = chance(x, 0.0, noise)
    inside = rate * chance(x, 1.0, noise) + (1.0 - rate) * out
    return (inside, out) if took_part else (out, inside)


def _without_tails(step: float, first: int, masses: Floats, infinite: float) -> PrivacyLoss:
    """Cuts negligible tails: the upper one becomes infinite, the lower one moves up to the rest."""
    from_below, from_above = np.cumsum(masses), np.cumsum(masses[::-1])[::-1]
    low = int(np.argmax(from_below > _CUT))
    high = len(masses) - int(np.argmax(from_above[::-1] > _CUT))
    kept = masses[low:high].copy()
    kept[0] += masses[:low].sum()
    return PrivacyLoss(step, first + low, kept, infinite + float(masses[high:].sum()))
