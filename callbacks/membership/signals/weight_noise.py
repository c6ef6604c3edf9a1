"""How much a record's loss rises when the weights are disturbed."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from callbacks.membership.segments import segment_mean
from callbacks.membership.signals.base import ModelAccess, RecordSignal
from callbacks.membership.signals.weights import full_precision, named_weights
from callbacks.scoring_pass import scored_batches
from datamodules.batches import EncodedRecord
from datamodules.errors import UserError
from datamodules.keys import key
from datamodules.records import InstructionRecord
from kdmodules.keyed_choice import keyed_uniforms

_CHUNK_NUMBERS = 1 << 18


def noise_scale(
    name: str, draws: int, rho: float | None, sigma: float | None
) -> tuple[float, bool]:
    """Returns the one scale that is given, and whether it is relative (rho).

    Raises:
        UserError: If there are fewer than three draws, from which no interval over draws can be
            had, or not exactly one positive scale; the line begins with the name.
    """
    if draws < 3:
        raise UserError(f"{name}: draws is {draws}: give at least 3")
    scales = [scale for scale in (rho, sigma) if scale is not None]
    if len(scales) != 1 or not 0 < scales[0] < math.inf:
        raise UserError(
            f"{name}: rho is {rho} and sigma is {sigma}: give one of them a positive number and "
            "the other null"
        )
    return float(scales[0]), rho is not None


@dataclass(frozen=True)
class WeightNoise(RecordSignal):
    """Rise of a record's mean NLL under Gaussian noise on all weights, one number per draw.

    With both signs a draw's number is [NLL(theta + s eps) + NLL(theta - s eps)] / 2 - NLL(theta),
    in which the first-order term s eps . grad cancels; with one sign it is
    NLL(theta + s eps) - NLL(theta). A draw is a function of (seed, draw, name of the tensor), so it
    is the same for every record, population, rank and kind of device.

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

    @property
    def label(self) -> str:
        """For instance "weight noise, 5 x both signs, rho 0.05"."""
        signs = "both signs" if self.antithetic else "one sign"
        unit = "rho" if self.relative else "sigma"
        return f"weight noise, {self.draws} x {signs}, {unit} {self.scale:g}"

    @property
    def passes(self) -> float:
        """One for the weights as they are and one per disturbance."""
        return 1.0 + self.draws * len(self._signs)

    @property
    def _signs(self) -> tuple[int, ...]:
        return (1, -1) if self.antithetic else (1,)

    def measure(
        self,
        access: ModelAccess,
        records: Sequence[InstructionRecord],
        encoded: Sequence[EncodedRecord],
    ) -> Tensor:
        """Returns the rise of every draw in nats per token, [B, draws].

        Beside the weights one copy of them is held, and the noise of one tensor at a time.

        Raises:
            UserError: If the weights are sharded or in half precision.
            FloatingPointError: Naming the record whose loss is not a number.
        """
        weights = named_weights(access.lm, self.label)
        rises = []
        with torch.no_grad(), full_precision(access.lm), _given_back(weights) as originals:
            undisturbed = self._mean_nll(access, encoded)
            for draw in range(self.draws):
                disturbed = torch.zeros_like(undisturbed)
                for sign in self._signs:
                    for name, parameter in weights.items():
                        noise = weight_noise(parameter, access.seed, draw, name)
                        size = sign * self._size(originals[name])
                        parameter.copy_(noise.mul_(size).add_(originals[name]))
                    disturbed += self._mean_nll(access, encoded) / len(self._signs)
                rises.append(disturbed - undisturbed)
        return torch.stack(rises, dim=1)

    def _size(self, weight: Tensor) -> float:
        if not self.relative:
            return self.scale
        norm = float(torch.linalg.vector_norm(weight, dtype=torch.float64))
        return self.scale * norm / math.sqrt(weight.numel())

    def _mean_nll(self, access: ModelAccess, encoded: Sequence[EncodedRecord]) -> Tensor:
        means = torch.empty(len(encoded), dtype=torch.float64)
        for places, table in scored_batches(
            access.lm,
            encoded,
            access.encoder.pad_id,
            access.ranks,
            access.batch_size,
            access.max_batch_tokens,
            lambda total: access.progress(self.label, total),
        ):
            means[places] = segment_mean(table.logp, table.offsets)
        return -means


def weight_noise(weight: Tensor, seed: int, draw: int, name: str) -> Tensor:
    """Returns standard normal noise for one tensor, of its shape, dtype and device.

    Box and Muller 1958, "A Note on the Generation of Random Normal Deviates", on uniform numbers
    that are computed from a counter: no generator walks through the weights in order, and a CPU and
    a GPU disturb a model alike, up to rounding.

    Args:
        weight: The tensor.
        seed: The run's seed.
        draw: Index of the draw.
        name: Name of the tensor in the Hugging Face model.
    """
    own = torch.tensor([key(seed, "weight noise", draw, name)], device=weight.device)
    noise = torch.empty(weight.numel(), dtype=weight.dtype, device=weight.device)
    for chunk, part in enumerate(noise.split(_CHUNK_NUMBERS)):
        half = -(-part.numel() // 2)
        uniform = keyed_uniforms(own, chunk, 2 * half)[0].to(weight.dtype)
        radius = uniform[:half].log().mul_(-2).sqrt_()
        angle = uniform[half:].mul_(2 * math.pi)
        part.copy_(torch.cat((radius * angle.cos(), radius * angle.sin()))[: part.numel()])
    return noise.view(weight.shape)


@contextmanager
def _given_back(weights: dict[str, nn.Parameter]) -> Iterator[dict[str, Tensor]]:
    """Yields copies of the weights and writes them back afterwards, whatever happened.

    Taking the noise off again would leave the rounding of two additions behind.
    """
    originals = {name: parameter.detach().clone() for name, parameter in weights.items()}
    try:
        yield originals
    finally:
        with torch.no_grad():
            for name, parameter in weights.items():
                parameter.copy_(originals[name])
