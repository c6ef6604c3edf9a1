"""Affine maps that let the final norm and the head read a residual stream before the last block.

Belrose et al., "Eliciting Latent Predictions from Transformers with the Tuned Lens", 2023 (arXiv
2303.08112), section 3: h -> h + A h + b, so fitted that the lens says of every position what the
model itself says there, min KL(model || lens). Departures, for some thousand tokens of text in
place of their 65 million: next to A = 0, b = 0, descent may start from a ridge regression of the
last block's stream on this one's (Din et al. 2023, arXiv 2303.09435, use one by itself), and of all
iterates that one is kept whose divergence on held-out text is least. The first of them is the plain
logit lens, so that no fitted one is worse than it there.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kdmodules.losses import ForwardKL, KDStep
from kdmodules.models.anatomy import head_inputs
from kdmodules.models.causal_lm import CausalLM

# Shares of the variance of a standardised coordinate.
_RIDGES = (0.001, 0.01, 0.1, 1.0)
_BATCH_TOKENS = 256
# Adam moves every number by this much over the width, whatever the gradient's size, so that the
# stream moves by as many standard deviations at any width.
_STEP = 0.3
_BETAS = (0.9, 0.99)


@dataclass(frozen=True)
class Translator:
    """The map h -> h + A (h - centre) + b, computed in its own type or wider.

    Attributes:
        matrix: A, [D, D].
        bias: b, [D].
        centre: [D]; what it takes off, b could, but for rounding where a coordinate is large.
    """

    matrix: Tensor
    bias: Tensor
    centre: Tensor

    def __call__(self, stream: Tensor) -> Tensor:
        """Returns [N, D] of the stream's type."""
        wide = stream.to(torch.promote_types(stream.dtype, self.matrix.dtype))
        moved = (wide - self.centre) @ self.matrix.T + self.bias
        return (wide + moved).to(stream.dtype)

    def to(self, device: torch.device | str) -> "Translator":
        """Returns the same map on a device."""
        parts = (self.matrix, self.bias, self.centre)
        return Translator(*(part.to(device) for part in parts))


@dataclass(frozen=True)
class LensText:
    """Text as it passes a model, at the N positions that predict its scored tokens.

    Attributes:
        stream: [N, D] behind the block whose lens is fitted.
        last: [N, D] behind the last block.
    """

    stream: Tensor
    last: Tensor

    def to(self, device: torch.device) -> "LensText":
        """Returns the same text on a device, in float32 or wider."""
        wide = torch.promote_types(self.stream.dtype, torch.float32)
        return LensText(self.stream.to(device, wide), self.last.to(device, wide))


@dataclass(frozen=True)
class FittedTranslator:
    """A block's translator and what the lens says of held-out text without and with it.

    Attributes:
        translator: The map.
        kl_plain: KL(model || logit lens), nats per token.
        kl_tuned: KL(model || tuned lens), nats per token; never above `kl_plain`.
    """

    translator: Translator
    kl_plain: float
    kl_tuned: float


def lens_divergence(lm: CausalLM, stream: Tensor, own: Tensor) -> Tensor:
    """Returns the mean KL(model || lens) in nats per token, differentiable in the stream.

    The head is applied to a few rows at a time.

    Args:
        lm: The model; its final norm and head must be whole.
        stream: [N, D] what the lens reads.
        own: [N, E] inputs of the head in the model itself.

    Raises:
        NonFiniteLossError: If a token's divergence is infinite or not a number.
    """
    head = lm.head.detach()
    step = KDStep(
        student_hidden=head_inputs(lm.model, stream),
        student_weight=head,
        # The cross-entropy has no weight here.
        targets=torch.zeros(len(stream), dtype=torch.int64, device=stream.device),
        teachers=[(own, head)],
        vocabulary_size=lm.vocabulary_size,
    )
    return ForwardKL()(step).total / len(stream)


def fit_translator(
    lm: CausalLM, fit: LensText, held_out: LensText, epochs: int, generator: torch.Generator
) -> FittedTranslator:
    """Fits one block's translator; call it where gradients are on and the head is whole.

    Args:
        lm: The model.
        fit: Text that the translator is fitted to.
        held_out: Text that says which iterate is kept.
        epochs: Passes of the descent over the text; 0 keeps the best of its starts.
        generator: CPU generator of the order of positions.

    Returns:
        The translator, on the text's device and without a gradient.

    Raises:
        NonFiniteLossError: If a token's divergence is infinite or not a number.
    """
    frame = _Frame.of(fit)
    with torch.no_grad():
        own, own_held_out = (head_inputs(lm.model, text.last) for text in (fit, held_out))

        def judged(weights: _Weights) -> tuple[float, _Weights]:
            seen = frame.translator(weights)(held_out.stream)
            return float(lens_divergence(lm, seen, own_held_out)), weights

        starts = [judged(weights) for weights in (frame.zero(), *frame.regressions(fit))]
        best = min(starts, key=_divergence)
    for weights in _descent(lm, fit.stream, own, frame, best[1], epochs, generator):
        with torch.no_grad():
            best = min(best, judged(weights), key=_divergence)
    return FittedTranslator(frame.translator(best[1]), starts[0][0], best[0])


@dataclass(frozen=True)
class _Weights:
    """A translator's numbers in standardised coordinates: matrix [D, D], bias [D]."""

    matrix: Tensor
    bias: Tensor


def _divergence(judged: tuple[float, _Weights]) -> float:
    return judged[0]


@dataclass(frozen=True)
class _Frame:
    """Coordinates of mean 0 and variance 1 of the stream, and of variance 1 of the last one.

    A few coordinates of a residual stream can be a thousand times as large as the others.
    """

    centre: Tensor
    before: Tensor
    behind: Tensor

    @classmethod
    def of(cls, text: LensText) -> "_Frame":
        before, behind = (
            torch.where(own > 0, own, 1.0)
            for own in (part.std(dim=0, correction=0) for part in (text.stream, text.last))
        )
        return cls(text.stream.mean(dim=0), before, behind)

    def translator(self, weights: _Weights) -> Translator:
        matrix = self.behind[:, None] * weights.matrix / self.before
        return Translator(matrix, self.behind * weights.bias, self.centre)

    def zero(self) -> _Weights:
        width = len(self.centre)
        return _Weights(self.centre.new_zeros(width, width), self.centre.new_zeros(width))

    def regressions(self, text: LensText) -> Iterator[_Weights]:
        """Yields the ridge regressions of what is still to come on the stream."""
        inputs = ((text.stream - self.centre) / self.before).double()
        missing = ((text.last - text.stream) / self.behind).double()
        products = inputs.T @ inputs / len(inputs)
        shared = inputs.T @ missing / len(inputs)
        bias = missing.mean(dim=0).to(self.centre.dtype)
        for ridge in _RIDGES:
            penalised = products + ridge * torch.eye(len(products)).to(products)
            found = torch.linalg.solve(penalised, shared).T.to(self.centre.dtype)
            yield _Weights(found, bias)


def _descent(
    lm: CausalLM,
    stream: Tensor,
    own: Tensor,
    frame: _Frame,
    start: _Weights,
    epochs: int,
    generator: torch.Generator,
) -> Iterator[_Weights]:
    """Yields where Adam stands after every pass over the text; its steps shrink to 0."""
    matrix, bias = (part.clone().requires_grad_() for part in (start.matrix, start.bias))
    optimizer = torch.optim.Adam([matrix, bias], lr=_STEP / len(bias), betas=_BETAS)
    steps = epochs * -(-len(stream) // _BATCH_TOKENS)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(epochs):
        order = torch.randperm(len(stream), generator=generator).to(stream.device)
        for rows in order.split(_BATCH_TOKENS):
            seen = frame.translator(_Weights(matrix, bias))(stream[rows])
            loss = lens_divergence(lm, seen, own[rows])
            # Not backward(): the gradients that a fit has accumulated stay as they are.
            matrix.grad, bias.grad = torch.autograd.grad(loss, (matrix, bias))
            optimizer.step()
            schedule.step()
        yield _Weights(matrix.detach().clone(), bias.detach().clone())
