"""The likeliest next tokens, straight from last hidden states, without the logits of a batch."""

import torch
from torch import Tensor

from kdmodules.models.head import Head, as_head

_CPU_TILE_ELEMENTS = 1 << 19  # 2 MiB in float32, which stays in the cache from product to maximum
_DEVICE_TILE_ELEMENTS = 1 << 26
_MIN_SLICE_TOKENS = 256


@torch.no_grad()
def likeliest_tokens(hidden: Tensor, head: Head | Tensor) -> tuple[Tensor, Tensor]:
    """Returns the greatest logit of each row and its place, both [N].

    The head is applied a slice of the vocabulary at a time, in float32 or wider. Equal logits give
    the lowest place, as ``generate`` does.

    Args:
        hidden: Inputs of the head, [N, D].
        head: The head, or its weight alone, [V, D]; rows of padding must have been cut off.

    Returns:
        The logits, NaN where any logit of the row is, and the ids, int64.

    Example:
        >>> likeliest_tokens(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [2.0, 0.0]]))
        (tensor([2.]), tensor([1]))
    """
    head = as_head(head)
    hidden = hidden.to(head.wide_type(hidden))
    on_cpu = hidden.device.type == "cpu"
    elements = _CPU_TILE_ELEMENTS if on_cpu else _DEVICE_TILE_ELEMENTS
    n = hidden.shape[0]
    width = max(_MIN_SLICE_TOKENS, elements // max(1, n))
    best = torch.full((n,), -torch.inf, dtype=hidden.dtype, device=hidden.device)
    token = torch.zeros(n, dtype=torch.int64, device=hidden.device)
    for start in range(0, head.size(hidden), width):
        tokens = slice(start, start + width)
        if head.weight is None:
            logits = hidden[:, tokens]
        else:
            products = hidden @ head.weight[tokens].to(hidden.dtype).t()
            logits = head.finish_(products, tokens)
        top, index = logits.max(dim=-1)
        better = top > best
        token = torch.where(better, index + start, token)
        best = torch.maximum(best, top)  # of NaN and a number NaN
    return best, token
