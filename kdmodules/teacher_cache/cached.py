"""Teachers that answer from disk."""

from pathlib import Path

import torch
from torch import Tensor

from datamodules.batches import InstructionBatch
from kdmodules.losses import TeacherRows, TopKRows
from kdmodules.teacher_cache.identity import row_hashes
from kdmodules.teacher_cache.store import Store


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
        self._heads = [
            self.store.array(f"head-{index}").to(device) for index in range(len(self._hidden))
        ]

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
