"""How much a record's loss rises when the weights are disturbed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audits.membership.signals.base import RecordSignal
from audits.membership.signals.weight_shards import (
    first_held,
    gather_anew,
    given_back,
    held_part,
    no_copy_left,
    root_mean_square,
)
from audits.membership.signals.weights import full_precision, named_weights
from audits.scoring.model_access import ModelAccess
from audits.scoring.scoring_pass import scored_batches
from common.errors import UserError
from common.keys import key
from common.options import require_at_least
from datamodules.batches import EncodedRecord
from kdmodules.sampling.keyed_choice import keyed_uniforms

_CHUNK_NUMBERS = 1 << 18


@dataclass(frozen=True)
class WeightNoise(RecordSignal):
    """Rise of a record's mean NLL under Gaussian noise on all weights, one number per draw.

    With both signs a draw's number is [NLL(theta + s eps) + NLL(theta - s eps)] / 2 - NLL(theta),
    in which the first-order term s eps . grad cancels; with one sign it is
    NLL(theta + s eps) - NLL(theta). A draw is a function of (seed, draw, name of the tensor), so it
    is the same for every record, population, rank and kind of device. Where weights are sharded,
    each rank disturbs what it holds of them, and the model that is gathered is the same.

    Attributes:
        draws: Number of noise draws, K.
        scale: Size of the noise.
        relative: Whether the noise on a tensor W has the size s = scale * rms(W), its root mean
            square, or s = scale on all tensors.
        antithetic: Whether every draw is used with both signs.
    """

    draws: int
    scale: float
    relative: bool
    antithetic: bool

    @classmethod
    def of(
        cls, name: str, draws: int, rho: float | None, sigma: float | None, antithetic: bool
    ) -> "WeightNoise":
        """Returns the noise of the one scale that is given.

        Raises:
            UserError: If there are fewer than three draws, from which no interval over draws can be
                had, or not exactly one positive scale; the line begins with the name.
        """
        require_at_least(3, f"{name}: ", draws=draws)
        scales = [scale for scale in (rho, sigma) if scale is not None]
        if len(scales) != 1 or not 0 < scales[0] < math.inf:
            raise UserError(
                f"{name}: rho is {rho} and sigma is {sigma}: give one of them a positive number "
                "and the other null"
            )
        return cls(draws, float(scales[0]), rho is not None, antithetic)

    @property
    def params(self) -> dict[str, float | int | str]:
        """Options that tell two uses of the noise apart, ready for JSON."""
        unit = "rho" if self.relative else "sigma"
        return {"draws": self.draws, "antithetic": self.antithetic, unit: self.scale}

    @property
    def signs(self) -> tuple[int, ...]:
        """The signs with which a draw is used."""
        return (1, -1) if self.antithetic else (1,)

    @property
    def label(self) -> str:
        """For instance "weight noise, 5 x both signs, rho 0.05"."""
        signs = "both signs" if self.antithetic else "one sign"
        unit = "rho" if self.relative else "sigma"
        return f"weight noise, {self.draws} x {signs}, {unit} {self.scale:g}"

    @property
    def passes(self) -> float:
        """One for the weights as they are and one per disturbance."""
        return 1.0 + self.draws * len(self.signs)

    def measure(self, access: ModelAccess, encoded: Sequence[EncodedRecord]) -> Tensor:
        """Returns the rise of every draw in nats per token, [B, draws].

        Beside the weights that a rank holds one copy of them is held, and the noise of one tensor
        at a time.

        Raises:
            UserError: If the weights are in half precision.
            FloatingPointError: Naming the record whose loss is not a number.
        """
        lm = access.lm
        weights = named_weights(lm, self.label, whole=False)
        rises = []
        with (
            torch.no_grad(),
            full_precision(lm),
            no_copy_left(lm),
            given_back(weights) as originals,
        ):
            sizes = noise_sizes(weights, self.scale, self.relative)
            undisturbed = self._mean_nll(access, encoded)
            for draw in range(self.draws):
                disturbed = torch.zeros_like(undisturbed)
                for sign in self.signs:
                    for name, weight in weights.items():
                        noise = weight_noise(weight, access.seed, draw, name)
                        noise.mul_(sign * sizes[name]).add_(originals[name])
                        held_part(weight).copy_(noise)
                    gather_anew(lm)
                    disturbed += self._mean_nll(access, encoded) / len(self.signs)
                rises.append(disturbed - undisturbed)
        return torch.stack(rises, dim=1)

    def _mean_nll(self, access: ModelAccess, encoded: Sequence[EncodedRecord]) -> Tensor:
        means = torch.empty(len(encoded), dtype=torch.float64)
        for places, table in scored_batches(access, encoded, self.label):
            means[places] = table.mean_logp
        return -means


def noise_sizes(
    weights: Mapping[str, nn.Parameter], scale: float, relative: bool
) -> dict[str, float]:
    """Returns the size of the noise on every weight; work for all ranks at once.

    Args:
        weights: Undisturbed weights by name.
        scale: Size of the noise.
        relative: Whether that is a share of the root mean square of the whole tensor.
    """
    return {
        name: scale * root_mean_square(weight) if relative else scale
        for name, weight in weights.items()
    }


def weight_noise(weight: Tensor, seed: int, draw: int, name: str) -> Tensor:
    """Returns standard normal noise for one tensor, of its dtype and device.

    Args:
        weight: The tensor.
        seed: The run's seed.
        draw: Index of the draw.
        name: Name of the tensor in the Hugging Face model.

    Returns:
        Noise of the tensor's shape; of a sharded tensor, for the rows that this rank holds.
    """
    held = held_part(weight)
    own = torch.tensor([key(seed, "weight noise", draw, name)], device=held.device)
    first = first_held(weight)
    last = first + held.numel()
    return normal_numbers(own, weight.numel(), first, last, held.dtype).view(held.shape)


def normal_numbers(own: Tensor, total: int, first: int, last: int, dtype: torch.dtype) -> Tensor:
    """Returns some of a key's standard normal numbers.

    Box and Muller 1958, "A Note on the Generation of Random Normal Deviates", on uniform numbers
    that are computed from a counter, in chunks: no generator walks through the weights in order, a
    CPU and a GPU disturb a model alike, up to rounding, and only the chunks that are asked for are
    computed.

    Args:
        own: The key, int64 [1].
        total: How many numbers there are; the last chunk depends on it.
        first: Index of the first one that is asked for.
        last: Index behind the last one.
        dtype: Their type, in which they are computed.

    Returns:
        [last - first] on the key's device.
    """
    noise = torch.empty(last - first, dtype=dtype, device=own.device)
    for chunk in range(first // _CHUNK_NUMBERS, -(-last // _CHUNK_NUMBERS)):
        start = chunk * _CHUNK_NUMBERS
        end = min(start + _CHUNK_NUMBERS, total)
        half = -(-(end - start) // 2)
        uniform = keyed_uniforms(own, chunk, 2 * half)[0].to(dtype)
        radius = uniform[:half].log().mul_(-2).sqrt_()
        angle = uniform[half:].mul_(2 * math.pi)
        numbers = torch.cat((radius * angle.cos(), radius * angle.sin()))
        lower, upper = max(first, start), min(last, end)
        noise[lower - first : upper - first] = numbers[lower - start : upper - start]
    return noise
