"""MiniLLM's objective (Gu et al. 2024, section 2.2 and appendix A), as an ordinary KD loss."""

import torch
from torch import Tensor

from common.errors import UserError
from kdmodules.losses.divergence import KDLoss, ValuesAndGrad
from kdmodules.losses.kl import ReverseKL
from kdmodules.losses.step import Chunk, KDStep, LossSums


class PolicyGradient(KDLoss):
    """Clipped policy gradient towards low reverse KL plus its single-step term, per rollout token.

    With importance weight w, ratio `rho = w exp(log q - log q_old)` of the token that was drawn and
    advantage A (`returns.py`): `max(-A rho, -A clip(rho, 1 - clip, 1 + clip)) + w KL(q||p)`, the
    KL over the vocabulary on the rollout's prefix. Both terms are summed over tokens and divided
    by the global token count like any objective, which is MiniLLM's masked mean. The clip
    holds tokens back that have moved far, and a weight for the drawn token alone leaves out those
    of the tokens before it: both bias the gradient of KL(q||p). Without clip, mixture, reward
    clipping, whitening and length normalisation, and with returns from the next token on, it is
    exact in expectation.

    The step's extras hold, per scored token: `advantages`; `old_logp`, log q of the token when the
    round was rolled out; `mixture_weight`, w = q_old / ((1 - a) q_old + a p).

    Args:
        clip: Half-width of the ratio's free interval; infinity never clips.
        as_released: Leave w out of the single-step term, as the authors' code does.

    Raises:
        UserError: `clip` is not positive.
    """

    terms = ("policy_gradient", "single_step")
    needs_teacher_support = True
    required_extras = ("advantages", "old_logp", "mixture_weight")

    def __init__(self, clip: float = 0.2, as_released: bool = False) -> None:
        super().__init__()
        if not clip > 0:
            raise UserError(f"clip is {clip}: give a positive number")
        self.clip, self.as_released = clip, as_released
        self.single_step = ReverseKL()

    def forward(self, step: KDStep) -> LossSums:
        """Sums over the rollouts' scored tokens.

        Args:
            step: Micro-batch of rollouts, at temperature 1.

        Returns:
            Differentiable total and detached sums; `terms` has both parts.

        Raises:
            UserError: The batch was not rolled out, or the temperature is not 1.
            NonFiniteLossError: A token's loss is infinite or not a number.
        """
        missing = [name for name in self.required_extras if name not in step.extras]
        if missing:
            raise UserError(
                f"PolicyGradient finds no {', '.join(missing)} in the batch: its response "
                "source must be TeacherMixedRollouts"
            )
        check_temperature(step.reduction.temperature)
        return super().forward(step)

    def chunk_values(self, chunk: Chunk) -> Tensor:
        """[2, n] policy gradient and single-step term."""
        drawn = chunk.student_logp.gather(1, chunk.targets.unsqueeze(1)).squeeze(1)
        surrogate, _ = self.surrogate(drawn, chunk)
        divergence = self.single_step.per_token(chunk.student_logp, chunk.teacher_logp)
        return torch.stack((surrogate, divergence * self._single_step_weight(chunk)))

    def chunk_values_with_grad(self, chunk: Chunk) -> ValuesAndGrad:
        """[2, n] both terms and [n, V] gradient of their sum by student logits."""
        targets = chunk.targets.unsqueeze(1)
        drawn = chunk.student_logp.gather(1, targets).squeeze(1)
        surrogate, by_drawn = self.surrogate(drawn, chunk)
        divergence, grad = self.single_step.per_token_with_grad(
            chunk.student_logp, chunk.teacher_logp
        )
        weight = self._single_step_weight(chunk)
        grad.mul_(weight.unsqueeze(1))
        pull = by_drawn.unsqueeze(1)
        grad.addcmul_(chunk.student_logp.exp(), pull, value=-1).scatter_add_(1, targets, pull)
        return torch.stack((surrogate, divergence * weight)), grad

    def surrogate(self, drawn_logp: Tensor, chunk: Chunk) -> tuple[Tensor, Tensor]:
        """Clipped surrogate of the drawn tokens and its derivative.

        Args:
            drawn_logp: [n] student's log-probability of each drawn token.
            chunk: The rows, for their extras.

        Returns:
            [n] `max(-A rho, -A clip(rho))` and [n] its derivative by `drawn_logp`: -A rho where
            that is the larger, 0 where the clip holds.
        """
        advantages, old_logp, weight = (
            chunk.extras[name].to(drawn_logp) for name in self.required_extras
        )
        ratio = weight * (drawn_logp - old_logp).exp()
        free = -advantages * ratio
        clipped = -advantages * ratio.clamp(1 - self.clip, 1 + self.clip)
        return torch.maximum(free, clipped), torch.where(free >= clipped, free, 0)

    def _single_step_weight(self, chunk: Chunk) -> Tensor:
        weight = chunk.extras["mixture_weight"].to(chunk.student_logp)
        return torch.ones_like(weight) if self.as_released else weight


def check_temperature(temperature: float) -> None:
    """Refuses a temperature at which log q is not that of the rollouts.

    Raises:
        UserError: If it is not 1.
    """
    if temperature != 1:
        raise UserError("PolicyGradient: rollouts are drawn at temperature 1, set temperature 1")
