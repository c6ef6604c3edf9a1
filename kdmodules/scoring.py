"""Per-token statistics of a causal model, straight from its last hidden states.

The head is applied to tiles, some tokens by a slice of the vocabulary, that stay in cache from the
product to the last sum, so that the logits of a batch never exist, nor those of one of its chunks.
A slice yields its own maximum, mass, mean and centred second moment; slices are merged by the
update of Chan, Golub and LeVeque (1983), which keeps the variance centred.
"""

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from kdmodules.models.head import Head, as_head

_CPU_CHUNK_TOKENS = 512
_CPU_TILE_ELEMENTS = 1 << 19  # 2 MiB in float32: the tile and its two work areas stay in the cache
_DEVICE_CHUNK_TOKENS = 2048
_DEVICE_TILE_ELEMENTS = 1 << 26
_MIN_SLICE_TOKENS = 256
TOP_K = (5, 20)
"""Of how many of the likeliest tokens an interface may tell the log-probabilities."""
LEAST_LEFT = 1e-6
"""Floor of the probability outside the likeliest tokens: below it, rounding is read."""

_LOG2_E = math.log2(math.e)
_LOWEST_EXPONENT = -1e4  # exp of it is exactly 0 in float32 and float64, and 0 times it is 0


class UndefinedScoreError(FloatingPointError):
    """A token without a next-token distribution: NaN or +inf among its logits, or all of them -inf.

    Attributes:
        row: index of the first such token among the N of the call.
    """

    def __init__(self, row: int) -> None:
        super().__init__(
            f"the logits of scored token {row} hold NaN or +inf, or are all -inf: no distribution"
        )
        self.row = row


@dataclass(frozen=True, slots=True)
class TokenScores:
    """What the likelihood attacks read, for each of N scored tokens.

    Attributes:
        logp: log-probability of the true token, [N], nats.
        mean: mean of log q(v) for v ~ q, the model's own distribution, [N], nats.
        variance: variance of log q(v) for v ~ q, [N], nats squared.
        rank: number of tokens with a strictly greater logit than the true one, [N] int64; 0 where
            greedy decoding yields the true token.
        outside_top_5: log-probability that is left to each token outside the 5 likeliest, [N],
            nats: log(max(1 - their sum, 1e-6) / (V - 5)), V without padding; None if not asked for.
        outside_top_20: the same of the 20 likeliest.
    """

    logp: Tensor
    mean: Tensor
    variance: Tensor
    rank: Tensor
    outside_top_5: Tensor | None = None
    outside_top_20: Tensor | None = None

    @property
    def entropy(self) -> Tensor:
        """Entropy of the model's distribution, [N], nats."""
        return -self.mean

    def __len__(self) -> int:
        return self.logp.shape[0]

    def columns(self) -> dict[str, Tensor]:
        """Returns what was asked for, by name, each [N]."""
        named = ((column.name, getattr(self, column.name)) for column in fields(self))
        return {name: values for name, values in named if values is not None}


class _SliceMoments(NamedTuple):
    """Moments of one vocabulary slice under weights exp(z - top), each [n, 1].

    ``highest`` are its greatest logits, [n, K]; none of them where nobody asks.
    """

    above: Tensor
    top: Tensor
    mass: Tensor
    mean: Tensor
    spread: Tensor
    highest: Tensor


@torch.no_grad()
def token_statistics(
    hidden: Tensor,
    head: Head | Tensor,
    targets: Tensor,
    chunk_tokens: int | None = None,
    *,
    outside_top: bool = False,
) -> TokenScores:
    """Scores tokens under the softmax of their logits, without gradient.

    Everything is computed in float32, or in float64 where an input is float64, whatever the model's
    dtype: half-precision weights are widened slice by slice. A logit of -inf is a token of
    probability zero and adds nothing to the moments (0 log 0 = 0). The true token's own logit is
    computed once and used everywhere, so that it is never above itself; tokens tied with it do not
    count in ``rank``, and logits closer to it than the rounding of the product are ordered by that
    rounding.

    Args:
        hidden: inputs of the head at the positions that predict the targets, [N, D].
        head: the head, or its weight alone, [V, D]; rows of padding must have been cut off.
        targets: ids of the true tokens, [N] int64.
        chunk_tokens: tokens per tile; None picks what is fast on the device. Changes no score
            beyond rounding.
        outside_top: Whether to tell what is left outside the likeliest tokens.

    Returns:
        Statistics of shape [N] on the device of ``hidden``.

    Raises:
        UndefinedScoreError: if a token has no next-token distribution; names its row.
        ValueError: if shapes, dtypes or ids do not fit together.

    Example:
        >>> scores = token_statistics(torch.zeros(1, 2), torch.ones(4, 2), torch.tensor([3]))
        >>> scores.logp.exp().item(), scores.entropy.exp().round().item(), scores.rank.item()
        (0.25, 4.0, 0)
    """
    head = as_head(head)
    _check(hidden, head, targets, chunk_tokens)
    dtype = head.wide_type(hidden)
    on_cpu = hidden.device.type == "cpu"
    chunk = chunk_tokens or (_CPU_CHUNK_TOKENS if on_cpu else _DEVICE_CHUNK_TOKENS)
    chunk = max(1, min(chunk, hidden.shape[0]))
    elements = _CPU_TILE_ELEMENTS if on_cpu else _DEVICE_TILE_ELEMENTS
    slice_tokens = min(head.size(hidden), max(_MIN_SLICE_TOKENS, elements // chunk))
    work = torch.empty(3, chunk * slice_tokens, dtype=dtype, device=hidden.device)
    parts = []
    for start in range(0, hidden.shape[0], chunk):
        rows = slice(start, start + chunk)
        given = (hidden[rows].to(dtype), head, targets[rows], slice_tokens, work)
        scores = _score_chunk(*given, outside_top=outside_top)
        defined = scores.mean.isfinite()
        if not bool(defined.all()):
            raise UndefinedScoreError(start + int((~defined).nonzero()[0]))
        parts.append(scores)
    if not parts:
        empty = torch.empty(0, dtype=dtype, device=hidden.device)
        return TokenScores(empty, empty, empty, empty.long(), *([empty] * 2 * outside_top))
    names = parts[0].columns()
    return TokenScores(**{name: torch.cat([getattr(one, name) for one in parts]) for name in names})


def _check(hidden: Tensor, head: Head, targets: Tensor, chunk_tokens: int | None) -> None:
    weight = hidden if head.weight is None else head.weight
    shapes = f"hidden {tuple(hidden.shape)}, weight {tuple(weight.shape)}"
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(f"hidden must be [N, D] and weight [V, D]: found {shapes}")
    if targets.shape != hidden.shape[:1] or targets.dtype != torch.int64:
        found = f"{tuple(targets.shape)} {targets.dtype}"
        raise ValueError(f"targets must be [{hidden.shape[0]}] int64, found {found}")
    if chunk_tokens is not None and chunk_tokens < 1:
        raise ValueError(f"chunk_tokens must be at least 1, found {chunk_tokens}")
    if targets.numel() and not 0 <= int(targets.min()) <= int(targets.max()) < head.size(hidden):
        raise ValueError(f"targets must lie in [0, {head.size(hidden)})")


def _score_chunk(
    hidden: Tensor,
    head: Head,
    targets: Tensor,
    slice_tokens: int,
    work: Tensor,
    *,
    outside_top: bool,
) -> TokenScores:
    """Scores one chunk; rows without a distribution come back with a mean that is not finite."""
    given = (hidden, head, targets, slice_tokens, work)
    scores = _merge_slices(*given, masked=False, outside_top=outside_top)
    if not bool(scores.mean.isfinite().all()):
        # Logits of -inf need one more pass over each tile, which the common case is spared.
        scores = _merge_slices(*given, masked=True, outside_top=outside_top)
    return scores


def _merge_slices(
    hidden: Tensor,
    head: Head,
    targets: Tensor,
    slice_tokens: int,
    work: Tensor,
    *,
    masked: bool,
    outside_top: bool,
) -> TokenScores:
    n = hidden.shape[0]
    target_logit = _target_logits(hidden, head, targets)
    size = head.size(hidden)
    starts = range(0, size, slice_tokens)
    order, bounds = _group_by_slice(targets, starts)
    slices = []
    for index, start in enumerate(starts):
        tokens = slice(start, min(start + slice_tokens, size))
        width = tokens.stop - start
        logits, mass, product = (area[: n * width].view(n, width) for area in work)
        if head.weight is None:
            logits.copy_(hidden[:, tokens])
        else:
            torch.mm(hidden, head.weight[tokens].to(hidden.dtype).t(), out=logits)
        head.finish_(logits, tokens)
        mine = order[bounds[index] : bounds[index + 1]]
        logits[mine, targets[mine] - start] = target_logit[mine, 0]
        kept = min(TOP_K[-1], width) if outside_top else 0
        slices.append(_slice_moments(logits, mass, product, target_logit, masked=masked, kept=kept))
    columns = (torch.cat(moment, dim=1) for moment in zip(*slices, strict=True))  # [n, J] each
    return _combine(target_logit, _SliceMoments(*columns), size if outside_top else 0)


def _target_logits(hidden: Tensor, head: Head, targets: Tensor) -> Tensor:
    """Returns each true token's own logit, [n, 1]."""
    if head.weight is None:
        return hidden.gather(1, targets.unsqueeze(1))
    own = (hidden * head.weight[targets].to(hidden.dtype)).sum(dim=-1)
    return head.finish_(own, targets).unsqueeze(1)


def _group_by_slice(targets: Tensor, starts: range) -> tuple[Tensor, list[int]]:
    """Sorts tokens by target; tokens of slice i are ``order[bounds[i]:bounds[i + 1]]``."""
    ordered, order = targets.sort()
    edges = torch.tensor([*starts, starts.stop], device=targets.device)
    return order, torch.searchsorted(ordered, edges).tolist()


def _slice_moments(
    logits: Tensor, mass: Tensor, product: Tensor, target_logit: Tensor, *, masked: bool, kept: int
) -> _SliceMoments:
    """Reduces a tile of logits [n, S], which is overwritten, as are the two work areas."""
    above = torch.gt(logits, target_logit, out=product).sum(dim=-1, keepdim=True)
    if masked:
        logits.clamp_(min=torch.finfo(logits.dtype).min / 4)
    highest = logits.topk(kept, dim=-1, sorted=False).values
    top = logits.amax(dim=-1, keepdim=True)
    logits.sub_(top)
    if masked:
        logits.clamp_(min=_LOWEST_EXPONENT)
    # exp2 is vectorised where exp goes through a slower library: three times faster on CPU.
    torch.mul(logits, _LOG2_E, out=mass).exp2_()
    total = mass.sum(dim=-1, keepdim=True)
    mean = torch.mul(mass, logits, out=product).sum(dim=-1, keepdim=True) / total
    logits.sub_(mean)
    spread = torch.mul(mass, logits, out=product).mul_(logits).sum(dim=-1, keepdim=True)
    return _SliceMoments(above, top, total, mean, spread, highest)


def _combine(target_logit: Tensor, slices: _SliceMoments, vocabulary: int) -> TokenScores:
    """Merges the moments of all slices, each [n, J], into one token's statistics, [n].

    What is left outside the likeliest of a vocabulary's tokens is told where its size is above 0.
    """
    top = slices.top.amax(dim=-1, keepdim=True)
    all_masked = top <= torch.finfo(top.dtype).min / 4
    offset = (slices.top - top).clamp(min=_LOWEST_EXPONENT)
    mass = slices.mass * offset.exp()
    total = mass.sum(dim=-1, keepdim=True)
    centre = slices.mean + offset  # mean logit of a slice, relative to the row's greatest
    mean = (mass * centre).sum(dim=-1, keepdim=True) / total
    spread = slices.spread * offset.exp() + mass * (centre - mean).square()
    log_total = total.log()
    return TokenScores(
        logp=(target_logit - top - log_total).squeeze(1),
        mean=(mean - log_total).masked_fill(all_masked, math.nan).squeeze(1),
        variance=(spread.sum(dim=-1, keepdim=True) / total).squeeze(1),
        rank=slices.above.sum(dim=-1).round().long(),
        **_outside_top((slices.highest - top).exp() / total, vocabulary),
    )


def _outside_top(probabilities: Tensor, vocabulary: int) -> dict[str, Tensor]:
    """Returns what is left to each token outside the likeliest, [n] by name.

    Args:
        probabilities: [n, K] that hold the likeliest ones.
        vocabulary: Number of all tokens; 0 asks for nothing.
    """
    left = {}
    for k in TOP_K if vocabulary else ():
        likeliest = probabilities.topk(min(k, probabilities.shape[1]), dim=-1).values
        outside = (1 - likeliest.sum(dim=-1)).clamp(min=LEAST_LEFT)
        # No token is outside the 20 likeliest of 12, and nobody reads what it would get.
        left[f"outside_top_{k}"] = (outside / max(1, vocabulary - k)).log()
    return left
