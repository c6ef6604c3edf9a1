"""Options of differentially private training, and what they come to in a run."""

from dataclasses import dataclass
from typing import Literal

from common.errors import UserError
from common.options import require_at_least, require_positive

Clipping = Literal["norm", "automatic"]
_WHERE = "model.dp."
_DELTA_POWER = -1.1


@dataclass
class PrivateTraining:
    """Trains by noisy sums of clipped gradients (DP-SGD: Abadi et al. 2016, arXiv 1607.00133).

    Every step draws each unit, a cluster of near-duplicates, by a coin of its own; a unit's summed
    gradient is clipped, noise is added once, and the sum is divided by the number of units that a
    step is expected to draw, ``data.batch_size``.

    Attributes:
        epsilon: Target, in nats, which the noise is solved for; give this or ``noise``.
        noise: Standard deviation of the noise in clipping norms (sigma).
        delta: At which epsilon holds; None takes units^-1.1.
        clip: Greatest norm C of a unit's gradient, each record's loss being the mean over its
            tokens.
        clipping: norm scales a gradient g by min(1, C/|g|), automatic by C/(|g| + 0.01) (Bu et al.
            2022, arXiv 2206.07136).
        units: Units that the side is taken to have, for the rate, delta and the length of an epoch;
            None takes half of the pool's clusters and coin canaries. Never the private side's own
            count, which is private.
        seed: For tests: makes draws and noise of this published number, which voids the guarantee.

    Raises:
        UserError: A value is out of range, or neither or both of ``epsilon`` and ``noise`` are
            given.
    """

    epsilon: float | None = None
    noise: float | None = None
    delta: float | None = None
    clip: float = 1.0
    clipping: Clipping = "norm"
    units: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if (self.epsilon is None) == (self.noise is None):
            found = "both are" if self.noise is not None else "neither is"
            raise UserError(
                f"give {_WHERE}epsilon, a target, or {_WHERE}noise, and set the other to null; "
                f"{found} given"
            )
        require_positive(_WHERE, clip=self.clip)
        if self.epsilon is not None:
            require_positive(_WHERE, epsilon=self.epsilon)
        if self.noise is not None:
            require_at_least(0, _WHERE, noise=self.noise)
        if self.units is not None:
            require_at_least(1, _WHERE, units=self.units)
        if self.delta is not None and not 0 < self.delta < 1:
            raise UserError(f"{_WHERE}delta is {self.delta}: give a number between 0 and 1")

    def delta_of(self, units: float) -> float:
        """Returns delta for so many units."""
        return units**_DELTA_POWER if self.delta is None else self.delta


@dataclass(frozen=True)
class PrivateConstants:
    """What fixes the mechanism of a run: the same after a resume, whatever was drawn.

    Attributes:
        rate: Chance of a unit to be drawn in a step.
        noise: Standard deviation of the noise in clipping norms.
        clip: Greatest norm of a unit's gradient.
        clipping: How it is kept.
    """

    rate: float
    noise: float
    clip: float
    clipping: Clipping


def solved_noise(options: PrivateTraining, units: float, rate: float, steps: int) -> float:
    """Returns the noise of a run: as given, or the least that keeps to the target.

    Raises:
        UserError: No noise reaches the target.
    """
    if options.epsilon is None:
        return options.noise or 0.0
    # SciPy is slow to import, and no other training asks for it.
    from kdmodules.privacy.privacy_loss import noise_for

    try:
        return noise_for(options.epsilon, options.delta_of(units), rate, steps)
    except ValueError as error:
        raise UserError(
            f"{_WHERE}epsilon {options.epsilon} is out of reach: {error}; train for fewer steps, "
            "lower data.batch_size, or raise the target"
        ) from error
