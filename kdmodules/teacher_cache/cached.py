"""What is stored of a teacher, hidden states or its likeliest tokens, and read back for a batch."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from datamodules.batches import InstructionBatch
from kdmodules.losses import HeadRows, TeacherRows, TopKRows
from kdmodules.models.head import Head, as_head
from kdmodules.teacher_cache.identity import row_hashes
from kdmodules.teacher_cache.settings import TeacherCache
from kdmodules.teacher_cache.store import Store

_CHUNK_BYTES = 25 * 2**20


class CachedTeachers:
    """What the objective needs of each teacher, read from a store.

    Rows are found by a hash of the tokens themselves, so that a text is answered by its own rows
    or refused.

    Args:
        path: Folder of the store, which is whole.
        device: Where the rows are handed out.

    Attributes:
        vocabulary_size: Number of tokens that the teachers and the student of the run that asked
            them have in common.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self.store = Store(path)
        self.vocabulary_size = int(self.store.about["vocabulary_size"])
        self._device = device
        self._hidden = [name for name in self.store.columns if name.startswith("hidden-")]
        self._heads = [self._head(index) for index in range(len(self._hidden))]

    def _head(self, index: int) -> Head:
        def part(name: str) -> Tensor:
            return self.store.array(f"{name}-{index}").to(self._device)

        about = self.store.about
        bias = part("bias") if about["biases"][index] else None
        return Head(part("head"), bias, about["soft_caps"][index])

    def rows(self, batch: InstructionBatch) -> TeacherRows:
        """Returns what the objective needs of each teacher at the batch's scored tokens.

        Raises:
            ValueError: If a text is not in the store, naming its record.
        """
        texts = []
        for name, text in zip(batch.record_ids, row_hashes(batch), strict=True):
            if text is None:
                continue
            if text not in self.store:
                raise ValueError(
                    f"record {name!r} has other tokens than the cached teacher in "
                    f"{self.store.path} was asked for: its response source does not keep to "
                    "fixed texts"
                )
            texts.append(text)

        def column(name: str) -> Tensor:
            return self.store.rows(name, texts).to(self._device)

        if self._hidden:
            return tuple(zip(map(column, self._hidden), self._heads, strict=True))
        logp, ids, tail = map(column, ("logp", "ids", "tail"))
        return (TopKRows(logp, ids.long(), tail.squeeze(1), self.vocabulary_size),)


def stored_columns(
    cache: TeacherCache, teachers: Sequence[HeadRows], vocabulary_size: int
) -> dict[str, Tensor]:
    """Returns the columns to store for some tokens.

    Args:
        cache: What is to be kept.
        teachers: (hidden [N, Dt], head or its weight [V', Dt]) of each.
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
    kept = _likeliest(hidden, as_head(head).rows(vocabulary_size), cache.k)
    return {"logp": kept.logp, "ids": kept.ids.int(), "tail": kept.tail.unsqueeze(1)}


def _likeliest(hidden: Tensor, head: Head, k: int) -> TopKRows:
    """Keeps the k likeliest tokens, some rows at a time: logits of all would not fit."""
    n_tokens = head.size(hidden)
    rows = hidden.split(max(1, _CHUNK_BYTES // (4 * n_tokens)))
    parts = [TopKRows.of(head.logits(part), k) for part in rows]
    return TopKRows(
        torch.cat([part.logp for part in parts]),
        torch.cat([part.ids for part in parts]),
        torch.cat([part.tail for part in parts]),
        n_tokens,
    )
