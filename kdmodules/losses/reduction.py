"""The chunked reduction: from hidden states to a loss without a tensor of tokens by vocabulary.

A few scored tokens at a time go through both heads; the gradient with respect to the student's
hidden states and head is formed there and then, in the forward, and backward only scales it. Peak
memory is a [chunk, V] buffer per model, which the student's gradient then takes the place of, and
one [V, D] accumulator.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import log
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kdmodules.losses.head_product import Gradients, HeadProduct
from kdmodules.losses.step import LOGP_FLOOR, Chunk, KDStep, LossSums, NonFiniteLossError
from kdmodules.losses.top_k_rows import TopKRows
from kdmodules.models.head import as_head

if TYPE_CHECKING:
    from kdmodules.losses.divergence import KDLoss

# glibc serves blocks from 32 MiB on by mmap, which faults every page in anew for each chunk; what
# stays below keeps the peak low (130 tokens of 50,257 in float32).
CPU_CHUNK_BYTES = 25 * 2**20
ACCELERATOR_CHUNK_BYTES = 512 * 2**20

# The products of a chunk are large, what is done to their every element is done to a few rows at a
# time, which stay in the CPU's caches meanwhile.
CPU_TILE_BYTES = 2 * 2**20


def cross_entropy(step: KDStep) -> LossSums:
    """Summed cross-entropy of the scored tokens in nats, without any teacher.

    Args:
        step: Hidden states, head and targets; its `kd_ratio` and temperature are not used.

    Returns:
        Sums whose total is the cross-entropy.

    Raises:
        NonFiniteLossError: A token's loss is infinite or not a number.
    """
    supervised = replace(step.reduction, kd_ratio=0.0, temperature=1.0)
    return reduce_step(None, replace(step, teachers=(), reduction=supervised))


def reduce_step(objective: "KDLoss | None", step: KDStep) -> LossSums:
    """Sums a weighted cross-entropy and objective over scored tokens, chunk by chunk.

    With gradients enabled and a student tensor that requires one, the total carries it (backward
    may be called once); otherwise only values are computed. Softmaxes are float32 (float64 for
    float64 input) whatever the inputs and autocast say. No tokens give 0 with zero gradients.

    Args:
        objective: The divergence; None only where `kd_ratio` is 0.
        step: Hidden states, heads, targets and options.

    Returns:
        Differentiable total and detached sums.

    Raises:
        NonFiniteLossError: A token's loss is infinite or not a number.
        ValueError: `kd_ratio` is above 0 without objective or teacher.
    """
    if step.reduction.kd_ratio > 0 and (objective is None or not step.teachers):
        raise ValueError("kd_ratio above 0 needs an objective and at least one teacher")
    head = as_head(step.student_weight)
    inputs = (step.student_hidden, head.weight, head.bias)
    recording = torch.is_grad_enabled()
    wants = tuple(recording and part is not None and part.requires_grad for part in inputs)
    with torch.no_grad(), torch.autocast(step.student_hidden.device.type, enabled=False):
        done = _run_checked(objective, step, wants)
        per_token = done.loss_per_token()
        total = per_token.sum()
        ce_sum = done.values[0].sum()
        sums = done.values[1:].sum(1)
    if any(wants):
        total = cast(Tensor, _Attach.apply(*inputs, total, *done.gradients))
    names = () if objective is None else objective.terms
    terms = dict(zip(names, sums.unbind(), strict=False))
    return LossSums(total, ce_sum, sums.sum(), terms, step.n_tokens)


def _run_checked(
    objective: "KDLoss | None", step: KDStep, wants: tuple[bool, ...]
) -> "_ChunkedPass":
    """Runs the fast pass, and the exact one over again where a value is not finite."""
    for exact in (False, True) if any(wants) else (True,):
        attempt = _ChunkedPass(objective, step, wants, exact)
        attempt.run()
        per_token = attempt.loss_per_token()
        if bool(torch.isfinite(per_token).all()):
            return attempt
    raise NonFiniteLossError(per_token, step)


class _Attach(torch.autograd.Function):
    """Gives a finished total the gradients that were formed with it."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        total: Tensor,
        *gradients: Tensor | None,
    ) -> Tensor:
        dtypes = (part if part is None else part.dtype for part in (hidden, weight, bias))
        ctx.gradients = list(zip(gradients, dtypes, strict=True))
        return total.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.gradients
        if gradients is None:
            raise RuntimeError("the KD loss was differentiated before: it gives gradients once")
        ctx.gradients = None
        scaled = [None if g is None else g.mul_(grad_total).to(dtype) for g, dtype in gradients]
        return (*scaled, *[None] * (1 + len(scaled)))


class _ChunkedPass:
    """One pass over the scored tokens, its buffers and what it accumulates.

    Attributes:
        values: [1 + terms, N] cross-entropy, then each term of the objective, each token by its
            weight.
        gradients: Of the summed loss.
    """

    def __init__(
        self, objective: "KDLoss | None", step: KDStep, wants: tuple[bool, ...], exact: bool
    ) -> None:
        self.objective = objective if step.reduction.kd_ratio > 0 else None
        self.step, self.options, self.exact = step, step.reduction, exact
        hidden, head = step.student_hidden, as_head(step.student_weight)
        self.dtype = head.wide_type(hidden)
        weights = step.token_weights
        self.token_weights = None if weights is None else weights.to(self.dtype)
        self.student = HeadProduct(hidden, head, step.n_valid, self.dtype)
        taught = step.teachers if self.objective is not None else ()
        self.teachers = [
            rows
            if isinstance(rows, TopKRows)
            else HeadProduct(rows[0], as_head(rows[1]), step.n_valid, self.dtype)
            for rows in taught
        ]
        rows = 1 + (0 if self.objective is None else len(self.objective.terms))
        self.values = hidden.new_zeros(rows, step.n_tokens, dtype=self.dtype)
        self.gradients = Gradients(
            *(
                torch.zeros_like(part, dtype=self.dtype) if wanted and part is not None else None
                for part, wanted in zip((hidden, head.weight, head.bias), wants, strict=True)
            )
        )
        self.differentiable = any(wants)
        self.buffers: dict[str, Tensor] = {}

    def loss_per_token(self) -> Tensor:
        """[N] weighted loss of each token; terms of weight 0 are left out, infinite or not."""
        loss = torch.zeros_like(self.values[0])
        if self.options.ce_weight > 0 or self.objective is None:
            loss += self.values[0] * (self.options.ce_weight if self.objective is not None else 1.0)
        if self.objective is not None:
            loss += self.values[1:].sum(0) * self.options.kd_weight
        return loss

    def run(self) -> None:
        """Goes through all chunks."""
        size = self.options.chunk_tokens or self._fitting_rows(
            CPU_CHUNK_BYTES, ACCELERATOR_CHUNK_BYTES
        )
        # The first chunk and its first tile are the largest, so they size the buffers.
        self.tile = self._fitting_rows(CPU_TILE_BYTES, ACCELERATOR_CHUNK_BYTES)
        for start in range(0, self.step.n_tokens, size):
            self._add_chunk(slice(start, min(start + size, self.step.n_tokens)))
        if self.token_weights is not None:
            self.values *= self.token_weights
        self.buffers.clear()

    def _fitting_rows(self, cpu_bytes: int, accelerator_bytes: int) -> int:
        on_cpu = self.step.student_hidden.device.type == "cpu"
        budget = cpu_bytes if on_cpu else accelerator_bytes
        return max(1, budget // (self.step.n_valid * self.dtype.itemsize))

    def _buffer(self, name: str, n_rows: int) -> Tensor:
        """[n, V] scratch by name, allocated once per pass."""
        if name not in self.buffers:
            shape = (n_rows, self.step.n_valid)
            self.buffers[name] = self.student.hidden.new_empty(shape, dtype=self.dtype)
        return self.buffers[name][:n_rows]

    def _add_chunk(self, rows: slice) -> None:
        size = rows.stop - rows.start
        logits = self.student.logits(rows, self._buffer("student logits", size))  # [n, V]
        teachers = [
            teacher.logits(rows, self._buffer(f"teacher {index} logits", size))
            for index, teacher in enumerate(self.teachers)
        ]
        for start in range(0, size, self.tile):
            part = slice(start, min(start + self.tile, size))
            tile = slice(rows.start + part.start, rows.start + part.stop)
            self._add_tile(tile, logits[part], [teacher[part] for teacher in teachers])
        if self.differentiable:
            self.student.pull_back(logits, rows, self.gradients)

    def _add_tile(self, rows: slice, logits: Tensor, teachers: Sequence[Tensor]) -> None:
        """Writes the values of some rows, and their gradient over the student's [n, V] logits."""
        logp = torch.log_softmax(logits, -1, out=self._buffer("student", len(logits)))
        targets = self.step.targets[rows].unsqueeze(1)
        slope = self._cap_slope(logits)
        self.values[0, rows] = -logp.gather(1, targets).squeeze(1)
        grad = None
        if self.differentiable and (self.objective is None or self.options.ce_weight > 0):
            grad = torch.exp(logp, out=self._buffer("grad", len(logits)))
            grad.scatter_add_(1, targets, torch.full_like(targets, -1, dtype=self.dtype))
            if self.objective is not None:
                grad.mul_(self.options.ce_weight)
        if self.objective is not None:
            if self.options.temperature != 1:
                torch.log_softmax(logits.div_(self.options.temperature), -1, out=logp)
            kd_grad = self._add_objective(self.objective, rows, logp, self._teacher_logp(teachers))
            if kd_grad is not None:
                grad = kd_grad if grad is None else grad.add_(kd_grad)
        if grad is not None:
            if self.token_weights is not None:
                grad.mul_(self.token_weights[rows].unsqueeze(1))
            if slope is not None:
                grad.mul_(slope)
            logits.copy_(grad)

    def _cap_slope(self, logits: Tensor) -> Tensor | None:
        """[n, V] derivative of the student's soft cap, which gave these logits, where it counts."""
        soft_cap = self.student.head.soft_cap
        if soft_cap is None or not self.differentiable:
            return None
        slope = torch.div(logits, soft_cap, out=self._buffer("slope", len(logits)))
        return slope.square_().neg_().add_(1)

    def _add_objective(
        self, objective: "KDLoss", rows: slice, logp: Tensor, teacher_logp: Tensor
    ) -> Tensor | None:
        """Writes the objective's values and returns its weighted [n, V] gradient by logits."""
        extras = {name: tensor[rows] for name, tensor in self.step.extras.items()}
        chunk = Chunk(logp, teacher_logp, self.step.targets[rows], extras)
        if self.exact:
            self.values[1:, rows] = objective.chunk_values(chunk)
        if not self.differentiable:
            return None
        if self.exact:
            chunk.student_logp.clamp_(min=LOGP_FLOOR)
            chunk.teacher_logp.clamp_(min=LOGP_FLOOR)
        values, grad = objective.chunk_values_with_grad(chunk)
        if not self.exact:
            self.values[1:, rows] = values
        factor = self.options.kd_weight / self.options.temperature
        return grad if factor == 1 else grad.mul_(factor)

    def _teacher_logp(self, teachers: Sequence[Tensor]) -> Tensor:
        """[n, V] log of the teachers' mean probability at the step's temperature."""
        mean = self._buffer("teacher", len(teachers[0]))
        for index, logits in enumerate(teachers):
            if self.options.temperature != 1:
                logits.div_(self.options.temperature)
            if index == 0:
                torch.log_softmax(logits, -1, out=mean)
            else:
                member = torch.log_softmax(logits, -1, out=self._buffer("member", len(logits)))
                torch.logaddexp(mean, member, out=mean)
        return mean if len(teachers) == 1 else mean.sub_(log(len(teachers)))
