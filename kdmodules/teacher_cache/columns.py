"""What of a teacher is stored: hidden states beside the head, or its likeliest tokens."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdmodules.losses import HeadRows, TopKRows
from kdmodules.teacher_cache.settings import TeacherCache

_CHUNK_BYTES = 25 * 2**20


def stored_columns(
    cache: TeacherCache, teachers: Sequence[HeadRows], vocabulary_size: int
) -> dict[str, Tensor]:
    """Returns the columns to store for some tokens.

    Args:
        cache: What is to be kept.
        teachers: (hidden [N, Dt], head weight [V', Dt]) of each.
        vocabulary_size: V; rows of a head from there on are padding.

    Returns:
        [N, width] tensors by name.
    """
    if cache.kind == "full":
        return {
            f"hidden-{index}": hidden.to(cache.torch_dtype)
            for index, (hidden, _) in enumerate(teachers)
        }
    ((hidden, head),) = teachers
    kept = _likeliest(hidden, head[:vocabulary_size], cache.k)
    return {"logp": kept.logp, "ids": kept.ids.int(), "tail": kept.tail.unsqueeze(1)}


def _likeliest(hidden: Tensor, head: Tensor, k: int) -> TopKRows:
    """Keeps the k likeliest tokens, some rows at a time: logits of all would not fit."""
    size = max(1, _CHUNK_BYTES // (4 * len(head)))
    parts = [TopKRows.of(part.float() @ head.float().T, k) for part in hidden.split(size)]
    return TopKRows(
        torch.cat([part.logp for part in parts]),
        torch.cat([part.ids for part in parts]),
        torch.cat([part.tail for part in parts]),
        len(head),
    )
