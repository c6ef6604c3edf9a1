"""What of a teacher is stored: hidden states beside the head, or its likeliest tokens."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdmodules.losses import HeadRows, TeacherRows, TopKRows
from kdmodules.teacher_cache.settings import TeacherCache
from kdmodules.teacher_cache.store import Store

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


class StoredRows:
    """Rows of a store as the objectives take them.

    Args:
        store: What :func:`stored_columns` and the heads were written to.
        vocabulary_size: V.
        device: Where rows are handed out; the heads are kept there.
    """

    def __init__(self, store: Store, vocabulary_size: int, device: torch.device) -> None:
        self.store = store
        self.vocabulary_size = vocabulary_size
        self.device = device
        self.names = sorted(name for name in store.columns if name.startswith("hidden-"))
        self.heads = [store.array(f"head-{index}").to(device) for index in range(len(self.names))]

    def rows(self, records: Sequence[str]) -> TeacherRows:
        """Returns what the objective needs of each teacher at the tokens of some records."""
        if self.names:
            hidden = [self._column(name, records) for name in self.names]
            return tuple(zip(hidden, self.heads, strict=True))
        logp, ids, tail = (self._column(name, records) for name in ("logp", "ids", "tail"))
        return (TopKRows(logp, ids.long(), tail.squeeze(1), self.vocabulary_size),)

    def _column(self, name: str, records: Sequence[str]) -> Tensor:
        return self.store.rows(name, records).to(self.device)
