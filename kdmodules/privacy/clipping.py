"""Sums of clipped gradients, and the noise on them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from common.secret_randomness import secret_generator
from kdmodules.privacy.settings import Clipping

_AUTOMATIC_OFFSET = 0.01


class ClippedSum:
    """Adds gradients of units, each clipped, in float32.

    Attributes:
        flat: The sum over all parameters, one after another [P].

    Args:
        parameters: What the gradients are of.
        clip: Greatest norm C.
        clipping: ``norm`` or ``automatic``.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], clip: float, clipping: Clipping) -> None:
        self.parameters = parameters
        self.clip = clip
        self.clipping = clipping
        sizes = [parameter.numel() for parameter in parameters]
        self.flat = torch.zeros(sum(sizes), device=parameters[0].device)
        self._norms: list[Tensor] = []
        self._views = [
            part.view_as(parameter)
            for part, parameter in zip(self.flat.split(sizes), parameters, strict=True)
        ]

    @property
    def norms(self) -> Tensor:
        """Norm of each unit's gradient before it was clipped [units added]."""
        return torch.stack(self._norms) if self._norms else self.flat.new_zeros(0)

    def add(self, gradients: Sequence[Tensor | None]) -> None:
        """Adds one unit's gradient, clipped.

        Args:
            gradients: By parameter; None where the unit's loss does not depend on it.
        """
        there = [gradient.float() for gradient in gradients if gradient is not None]
        if not there:
            return
        norm = torch.stack([torch.linalg.vector_norm(one) for one in there]).norm()
        if self.clipping == "automatic":
            factor = self.clip / (norm + _AUTOMATIC_OFFSET)
        else:
            factor = (self.clip / norm).clamp(max=1.0)
        for view, gradient in zip(self._views, gradients, strict=True):
            if gradient is not None:
                view.add_(gradient.float() * factor)
        self._norms.append(norm)

    def write_gradients(self, divisor: float) -> None:
        """Makes the sum over ``divisor`` the gradient of every parameter."""
        for parameter, view in zip(self.parameters, self._views, strict=True):
            parameter.grad = (view / divisor).to(parameter.dtype)


def add_noise(flat: Tensor, deviation: float, secret: bytes, step: int) -> None:
    """Adds independent Gaussian noise in place, the same on every rank of a step.

    Args:
        flat: [P] float32.
        deviation: Standard deviation of each coordinate's noise; at 0 nothing is added.
        secret: Key of all noise.
        step: Optimiser steps before this one.
    """
    if deviation == 0.0:
        return
    generator = secret_generator(secret, "noise", step)
    noise = torch.from_numpy(generator.standard_normal(flat.numel(), dtype="float32"))
    flat.add_(noise.to(flat.device), alpha=deviation)
