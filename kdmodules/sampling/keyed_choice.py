"""Choices that belong to a record, not to a batch: keyed uniforms, exact categorical draws.

Everything random in a run is a pure function of (run seed, purpose, step or epoch, record id,
draw), so that order, batch size, resume and ranks do not change it. A record's key hashes these
five; the numbers behind a key come from SplitMix64 (Steele, Lea and Flood, 2014, "Fast splittable
pseudorandom number generators"), whose output for a counter needs no earlier output, so that a
whole batch is a few integer tensor operations, with the same bits on every device.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.keys import key

GROUP_TOKENS = 256
_GOLDEN_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_FIRST_MULTIPLIER = -4658895280553007687  # 0xBF58476D1CE4E5B9
_SECOND_MULTIPLIER = -7723592293110705685  # 0x94D049BB133111EB
_FRACTION_BITS = 52


@dataclass(frozen=True, slots=True)
class RandomScope:
    """What a record's random numbers depend on besides its id.

    Attributes:
        seed: The run's seed.
        purpose: Who draws, for instance "imitkd" or "samia": two purposes never share numbers.
        step: Optimiser step or epoch of the draw; 0 for what is drawn once.
        draw: Index of the draw where a record is sampled several times.
    """

    seed: int
    purpose: str
    step: int = 0
    draw: int = 0

    def keys(self, record_ids: Sequence[str], device: torch.device | None = None) -> Tensor:
        """Return one key per record, int64 [B].

        >>> scope = RandomScope(seed=1, purpose="example")
        >>> bool(scope.keys(["a", "b"])[1] == scope.keys(["b"])[0])
        True
        """
        keys = [key(self.seed, self.purpose, self.step, name, self.draw) for name in record_ids]
        return torch.tensor(keys, dtype=torch.int64, device=device)


def _mix(state: Tensor) -> Tensor:
    """Return SplitMix64's output function of 64-bit states, int64 of any shape."""
    mixed = (state ^ _shift_right(state, 30)) * _FIRST_MULTIPLIER
    mixed = (mixed ^ _shift_right(mixed, 27)) * _SECOND_MULTIPLIER
    return mixed ^ _shift_right(mixed, 31)


def _shift_right(bits: Tensor, count: int) -> Tensor:
    # torch shifts signed integers arithmetically; the mask clears the copies of the sign bit.
    return (bits >> count) & ((1 << (64 - count)) - 1)


def keyed_uniforms(keys: Tensor, stream: int, count: int) -> Tensor:
    """Return uniform numbers in the open interval (0, 1), the same for a key in any batch.

    Args:
        keys: Record keys, int64 [B].
        stream: Which of a key's streams (a token position, for instance), at least 0.
        count: Numbers per key.

    Returns:
        float64 [B, count], multiples of 2**-53 with 52 random bits, never 0 or 1.
    """
    # Streams are hashed, not offset: neighbouring positions would otherwise share a window.
    state = _mix(_mix(keys) + _wrap((stream + 1) * _GOLDEN_GAMMA))
    counter = torch.arange(1, count + 1, dtype=torch.int64, device=keys.device)
    bits = _mix(state.unsqueeze(-1) + counter * _GOLDEN_GAMMA)  # [B, count]
    return (_shift_right(bits, 64 - _FRACTION_BITS).double() + 0.5) * 2.0**-_FRACTION_BITS


def secret_uniforms(rows: int, count: int, device: torch.device | None = None) -> Tensor:
    """Return uniform numbers of the operating system, which nobody can draw again.

    Args:
        rows: How many rows.
        count: Numbers per row.
        device: Where they are needed.

    Returns:
        float64 [rows, count], in the grid of :func:`keyed_uniforms`.
    """
    bits = np.frombuffer(os.urandom(8 * rows * count), dtype=np.uint64) >> (64 - _FRACTION_BITS)
    uniforms = (bits.astype(np.float64) + 0.5) * 2.0**-_FRACTION_BITS
    return torch.from_numpy(uniforms.reshape(rows, count)).to(device)


def _wrap(number: int) -> int:
    """Return a Python integer reduced to the signed 64-bit range, as tensor arithmetic would."""
    return (number + 2**63) % 2**64 - 2**63


def keyed_choice(scores: Tensor, keys: Tensor, stream: int) -> Tensor:
    """Draw one index per row from softmax(scores), by Gumbel-max in two stages.

    The indices are cut into groups of `GROUP_TOKENS`; first a group is drawn with its total
    probability, then an index inside it. By the chain rule this is exactly a draw from
    the softmax. Each stage takes the largest of w_i / e_i with e_i ~ Exp(1), which is Gumbel-max
    (Maddison, Tarlow and Minka, 2014, section 3) after a monotone map. It needs about 450
    random numbers for a vocabulary of 50,257 instead of one each, and it keeps what an inverse
    cumulative distribution lacks: a change of relative size eps in the weights changes the draw
    with probability of order eps, where the inverse moves every one of V boundaries.

    Args:
        scores: Unnormalised log-probabilities, floating [B, V]; -inf forbids an index.
        keys: Record keys, int64 [B].
        stream: Which of the keys' streams: the position in the response.

    Returns:
        int64 [B], or -1 in a row that is no distribution (a NaN or +inf score, or all -inf). A
        row's draw depends on no other row, nor on forbidden indices past its last allowed one.
    """
    return choice_by(keyed_uniforms(keys, stream, uniforms_of_choice(scores)), scores)


def uniforms_of_choice(scores: Tensor) -> int:
    """Return how many uniform numbers a row of scores, [B, V], needs to be drawn from."""
    return GROUP_TOKENS + math.ceil(scores.shape[-1] / GROUP_TOKENS)


def choice_by(uniforms: Tensor, scores: Tensor) -> Tensor:
    """Draw as :func:`keyed_choice` does, with the uniform numbers that are given.

    Args:
        uniforms: float64 in (0, 1), [B, `uniforms_of_choice`].
        scores: As there; what is returned is as there too.
    """
    width = scores.shape[-1]
    groups = math.ceil(width / GROUP_TOKENS)
    peak = scores.amax(dim=-1, keepdim=True)  # [B, 1]
    weights = (scores - peak).float().exp_()  # [B, V]

    token_noise, group_noise = (-uniforms.log()).split([GROUP_TOKENS, groups], dim=-1)
    group = (_group_sums(weights) / group_noise).argmax(dim=-1, keepdim=True)  # [B, 1]
    members = group * GROUP_TOKENS + torch.arange(GROUP_TOKENS, device=scores.device)
    chosen = weights.gather(-1, members.clamp(max=width - 1)).masked_fill(members >= width, 0.0)
    index = members.gather(-1, (chosen / token_noise).argmax(dim=-1, keepdim=True))
    return torch.where(peak.isfinite(), index, torch.full_like(index, -1)).squeeze(-1)


def _group_sums(weights: Tensor) -> Tensor:
    """Return the sums of [B, V] over groups of neighbouring indices, [B, ceil(V / group)]."""
    whole = weights.shape[-1] // GROUP_TOKENS * GROUP_TOKENS
    # The last, shorter group is summed apart: padding the whole row would copy it.
    sums = weights[:, :whole].unflatten(-1, (whole // GROUP_TOKENS, GROUP_TOKENS)).sum(dim=-1)
    if whole == weights.shape[-1]:
        return sums
    return torch.cat([sums, weights[:, whole:].sum(dim=-1, keepdim=True)], dim=-1)


def sampling_scores(logits: Tensor, temperature: float, top_p: float, top_k: int) -> Tensor:
    """Return unnormalised log-probabilities of the sampling scheme: -inf where it never samples.

    Temperature comes first, then top-k, then top-p on what is left, renormalised, as in
    transformers. Ties with the last token that is kept are kept, so that the result depends on
    values alone. `log_softmax` of it gives the scheme's log-probabilities (Hayes 2024's p_z).

    Args:
        logits: Next-token logits, floating [..., V].
        temperature: Divides the logits.
        top_p: Mass to keep, in (0, 1].
        top_k: Tokens to keep; 0 keeps all.

    Returns:
        float32 (float64 for float64 logits) [..., V].
    """
    scores = logits if logits.dtype == torch.float64 else logits.float()
    if temperature != 1:
        scores = scores / temperature
    if 0 < top_k < scores.shape[-1]:
        lowest = scores.topk(top_k, dim=-1).values[..., -1:]
        scores = scores.masked_fill(scores < lowest, -torch.inf)
    if top_p < 1:
        ordered = scores.sort(dim=-1, descending=True).values
        probabilities = ordered.double().softmax(dim=-1)
        mass_before = probabilities.cumsum(dim=-1) - probabilities
        kept = (mass_before < top_p).sum(dim=-1, keepdim=True).clamp(min=1)
        scores = scores.masked_fill(scores < ordered.gather(-1, kept - 1), -torch.inf)
    return scores
