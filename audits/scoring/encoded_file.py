"""Token ids of many records on disk: a batch of them at a time becomes Python numbers."""

import os
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import overload

import numpy as np

from audits.scoring.owned_file import OwnedFile
from audits.scoring.token_statistics import SHARD_RECORDS, shard_places
from datamodules.batches import EncodedRecord
from datamodules.records import InstructionRecord

Records = Sequence[InstructionRecord]
_Token = np.int32


class EncodedFile(Sequence[EncodedRecord]):
    """Encoded records, tokenised once, a shard at a time, and read one by one.

    Args:
        records: The records.
        encode: From records to their tokens, each under its record's own id.
        folder: Where the file lies; None is the system's folder for temporary files.
    """

    def __init__(
        self,
        records: Records,
        encode: Callable[[Records], list[EncodedRecord]],
        folder: Path | None = None,
    ) -> None:
        self._records = records
        self._file = OwnedFile.nameless(folder)
        self._prompts = np.zeros(len(records), dtype=np.int32)
        self._responses = np.zeros(len(records), dtype=np.int32)
        self._cuts = np.zeros((len(records), 2), dtype=bool)
        for places in shard_places(len(records), SHARD_RECORDS):
            first, last = int(places[0]), int(places[-1])
            self._append(first, encode(records[first : last + 1]))
        self._file.stream.flush()
        lengths = self._prompts.astype(np.int64) + self._responses
        self._starts = lengths.cumsum() - lengths

    def _append(self, first: int, encoded: Sequence[EncodedRecord]) -> None:
        own = slice(first, first + len(encoded))
        self._prompts[own] = [len(one.prompt_ids) for one in encoded]
        self._responses[own] = [len(one.response_ids) for one in encoded]
        self._cuts[own] = [(one.prompt_cut, one.response_cut) for one in encoded]
        ids = chain.from_iterable(chain(one.prompt_ids, one.response_ids) for one in encoded)
        self._file.stream.write(np.fromiter(ids, dtype=_Token).tobytes())

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> EncodedRecord: ...

    @overload
    def __getitem__(self, index: slice) -> list[EncodedRecord]: ...

    def __getitem__(self, index: int | slice) -> EncodedRecord | list[EncodedRecord]:
        """Reads one record, or several."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        record = self._records[index]
        prompt, response = int(self._prompts[index]), int(self._responses[index])
        size = np.dtype(_Token).itemsize
        start = int(self._starts[index]) * size
        content = os.pread(self._file.descriptor, (prompt + response) * size, start)
        ids = np.frombuffer(content, dtype=_Token).tolist()
        prompt_cut, response_cut = self._cuts[index].tolist()
        return EncodedRecord(
            record.id,
            record.task,
            tuple(ids[:prompt]),
            tuple(ids[prompt:]),
            prompt_cut=prompt_cut,
            response_cut=response_cut,
        )
