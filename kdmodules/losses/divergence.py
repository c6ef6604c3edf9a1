"""The base of every KD objective.

An objective is one function of two rows of log-probabilities. Masking, temperature, chunks and the
gradient with respect to hidden states and head belong to `reduction.py`.
"""

import torch
from torch import Tensor, nn

from kdmodules.losses.reduction import reduce_step
from kdmodules.losses.step import Chunk, KDStep, LossSums

ValuesAndGrad = tuple[Tensor, Tensor]
"""Values of each token, [N] (or [terms, N] of a chunk), and their gradient by logits, [N, V]."""


class KDLoss(nn.Module):
    """A KD objective: nats per scored token from two rows of log-probabilities.

    A subclass defines `per_token`; with `per_token_with_grad` too it has a closed-form gradient,
    otherwise autograd runs inside each chunk. An objective that is no divergence between two rows
    (policy gradient) defines `chunk_values` and `chunk_values_with_grad` in their stead. Nothing
    here may hold trainable parameters: only the student learns.

    Attributes:
        terms: Names of the rows that `chunk_values` returns; the objective is their sum.
        needs_teacher_support: True where the objective is infinite when the teacher's probability
            is exactly 0 and the student's is not.
        required_extras: What it reads of a token besides the two rows: extras that the response
            source must leave (`ResponseSource.extras`).
    """

    terms: tuple[str, ...] = ("kd",)
    needs_teacher_support: bool = False
    required_extras: tuple[str, ...] = ()

    def per_token(self, student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
        """Nats per token.

        Args:
            student_logp: [N, V] log-probabilities of the student.
            teacher_logp: [N, V] log-probabilities of the teacher; receives no gradient.

        Returns:
            [N] nats, differentiable in `student_logp`; at least 0 for a divergence, 0 at p = q.

        Raises:
            NotImplementedError: The objective is no per-token divergence.
        """
        raise NotImplementedError(f"{type(self).__name__} has no per-token divergence")

    def per_token_with_grad(self, student_logp: Tensor, teacher_logp: Tensor) -> ValuesAndGrad:
        """Nats per token and their gradient, here by autograd on the rows given.

        A closed form may leave values and gradients undefined in rows that hold -inf: the reduction
        then takes the values from `per_token` and the gradient from rows floored at a finite value.

        Args:
            student_logp: [N, V] log-probabilities of the student; left as they are.
            teacher_logp: [N, V] log-probabilities of the teacher; left as they are.

        Returns:
            [N] nats and [N, V] gradient of each token's value with respect to the student's
            *logits*.
        """
        with torch.enable_grad():
            leaf = student_logp.detach().requires_grad_()
            value = self.per_token(leaf, teacher_logp.detach())
            (grad,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), project_to_logits(grad, student_logp.detach())

    def chunk_values(self, chunk: Chunk) -> Tensor:
        """[len(terms), n] values, without a gradient."""
        return self.per_token(chunk.student_logp, chunk.teacher_logp).unsqueeze(0)

    def chunk_values_with_grad(self, chunk: Chunk) -> ValuesAndGrad:
        """[len(terms), n] values and [n, V] gradient of their sum by student logits."""
        value, grad = self.per_token_with_grad(chunk.student_logp, chunk.teacher_logp)
        return value.unsqueeze(0), grad

    def begin_step(self, progress: float) -> None:
        """Hears the fraction of training done, in [0, 1], before each micro-batch."""

    def end_step(self, mean_nats: float) -> None:
        """Hears the objective's mean over the global batch once per optimiser step.

        Args:
            mean_nats: Sum of `kd_sum` over all ranks and micro-batches by their count of tokens:
                the same number on every rank.
        """

    def forward(self, step: KDStep) -> LossSums:
        """Sums over the scored tokens of a micro-batch.

        Args:
            step: Hidden states, heads, targets and options.

        Returns:
            Differentiable total and detached sums.

        Raises:
            NonFiniteLossError: A token's loss is infinite or not a number.
            ValueError: The objective has trainable parameters, which would get no gradient.
        """
        if any(parameter.requires_grad for parameter in self.parameters()):
            raise ValueError(f"{type(self).__name__} has trainable parameters")
        self.begin_step(step.progress)
        return reduce_step(self, step)


class Wrapped(KDLoss):
    """An objective that shows another one changed rows, and tells it of the steps.

    Args:
        objective: The other objective.
    """

    def __init__(self, objective: KDLoss) -> None:
        super().__init__()
        self.objective = objective
        self.needs_teacher_support = objective.needs_teacher_support
        self.terms = objective.terms

    def begin_step(self, progress: float) -> None:
        """Passes the fraction of training on."""
        self.objective.begin_step(progress)

    def end_step(self, mean_nats: float) -> None:
        """Passes the global mean on."""
        self.objective.end_step(mean_nats)


def project_to_logits(grad_logp: Tensor, student_logp: Tensor) -> Tensor:
    """Turns a gradient by log-probabilities into one by logits.

    `dD/dz_v = a_v - q_v sum_u a_u` with `a = dD/dlog q = q dD/dq`.

    Args:
        grad_logp: [N, V] derivative by each log-probability as if they were free; overwritten.
        student_logp: [N, V] log-probabilities.

    Returns:
        [N, V] gradient with respect to the logits.
    """
    total = grad_logp.sum(-1, keepdim=True)
    return grad_logp.addcmul_(student_logp.exp(), total, value=-1)


def at_least_zero(value: Tensor) -> Tensor:
    """Lifts rounding below zero to exactly zero and leaves the gradient alone.

    Args:
        value: [N] values of a divergence, which are non-negative in exact arithmetic.

    Returns:
        [N] the same, none below 0.
    """
    return value + (-value.detach()).clamp(min=0)


def expectation(logp: Tensor, values: Tensor) -> Tensor:
    """Expectation of `values` with 0 times infinity taken as 0.

    Args:
        logp: [N, V] log-probabilities.
        values: [N, V] quantities, possibly infinite or undefined where the probability is 0.

    Returns:
        [N] sums of `exp(logp) * values` over the tokens of positive probability.
    """
    probability = logp.exp()
    possible = probability > 0
    return (probability * torch.where(possible, values, 0)).sum(-1)
