"""Rewards, returns and advantages of MiniLLM's rollouts (Gu et al. 2024, section 2.2).

Everything here is per rollout round and without a gradient; rows are rollouts, columns response
positions. `mask` is True for response tokens and the first end of sequence, one run per row.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

REWARD_CLIP = 100.0


def rewards(
    student_logp: Tensor, teacher_logp: Tensor, mask: Tensor, reward_scaling: float = 0.5
) -> Tensor:
    """Reward of each drawn token: how much likelier the teacher finds it, `log p - log q`, scaled.

    Args:
        student_logp: [B, T] log q of each drawn token when it was drawn.
        teacher_logp: [B, T] log p of the same.
        mask: [B, T] bool.
        reward_scaling: Divides the reward before it is clipped to +-100.

    Returns:
        [B, T] rewards, 0 where `mask` is False.
    """
    scaled = (teacher_logp - student_logp) / reward_scaling
    return torch.where(mask, scaled.clamp(-REWARD_CLIP, REWARD_CLIP), 0)


def returns_to_go(
    reward: Tensor, mask: Tensor, length_normalised: bool = True, as_released: bool = False
) -> Tensor:
    """What follows each token: `R_t = sum_{k>t} r_k`, by default per remaining token.

    Length normalisation, MiniLLM's third device, weighs positions by what remains after them, so
    that the gradient is no longer exactly that of the sequence's KL. `as_released` follows the
    authors' code: the sum starts at t itself, discounted by 0.95 per token, over the count of
    tokens from t on. Beside the single-step term that counts r_t twice.

    Args:
        reward: [B, T], 0 where `mask` is False.
        mask: [B, T] bool.
        length_normalised: Divide by the number of tokens that the sum runs over.
        as_released: See above.

    Returns:
        [B, T] returns, 0 where `mask` is False and where nothing follows.
    """
    discount = 0.95 if as_released else 1.0
    reward = torch.where(mask, reward, 0)
    running, count = torch.zeros_like(reward[:, 0]), torch.zeros_like(reward[:, 0])
    out = torch.zeros_like(reward)
    for t in range(reward.shape[1] - 1, -1, -1):
        with_own = reward[:, t] + discount * running
        with_own_count = count + mask[:, t]
        total, length = (with_own, with_own_count) if as_released else (running, count)
        out[:, t] = total / length.clamp(min=1) if length_normalised else total
        running, count = with_own, with_own_count
    return torch.where(mask, out, 0)


def moment_sums(values: Tensor, mask: Tensor) -> Tensor:
    """Count, sum and sum of squares over a mask, to be added over ranks.

    Args:
        values: [B, T].
        mask: [B, T] bool.

    Returns:
        [3] float64.
    """
    kept = values[mask].double()
    return torch.stack((torch.full_like(kept.sum(), kept.numel()), kept.sum(), kept.square().sum()))


def padded_moment_sums(rows: Sequence[Tensor], width: int) -> Tensor:
    """`moment_sums` of rows that are padded with zeros, the zeros counted among the values.

    So the authors' code whitens: over a micro-batch whose responses are all padded to the longest
    that may be. Short responses thus pull the mean towards 0, and the sign of what is whitened by
    it with it.

    Args:
        rows: Values of each row, of any lengths up to `width`.
        width: Columns.

    Returns:
        [3] float64.
    """
    padded = torch.zeros(len(rows), width)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return moment_sums(padded, torch.ones_like(padded, dtype=torch.bool))


def whiten(values: Tensor, mask: Tensor, sums: Tensor | None = None) -> Tensor:
    """Advantages: values less their masked mean, over their masked standard deviation.

    The mean is a baseline that depends on the drawn tokens and the scale is random, so that
    whitened gradients are biased in size, not systematically in direction.

    Args:
        values: [B, T].
        mask: [B, T] bool.
        sums: `moment_sums` to whiten by, where they are not those of these values alone.

    Returns:
        [B, T] whitened values, 0 where `mask` is False; the variance is the population's, plus
        1e-8.
    """
    count, total, squares = moment_sums(values, mask) if sums is None else sums
    mean = total / count.clamp(min=1)
    variance = (squares / count.clamp(min=1) - mean.square()).clamp(min=0)
    whitened = (values.double() - mean) * (variance + 1e-8).rsqrt()
    return torch.where(mask, whitened, 0).to(values.dtype)
