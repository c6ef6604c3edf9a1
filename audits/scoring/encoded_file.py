"""Token ids of many records on disk: a batch of them at a time becomes Python numbers."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import overload

import numpy as np

from audits.record_counts import count_records
from audits.scoring.ragged_file import RaggedFile
from audits.scoring.token_statistics import SHARD_RECORDS, shard_places
from datamodules.batches import EncodedRecord
from datamodules.records import InstructionRecord

Records = Sequence[InstructionRecord]


class EncodedFile(Sequence[EncodedRecord]):
    """Encoded records, tokenised once, a shard at a time, and read one by one.

    Args:
        records: The records.
        encode: From records to their tokens, each under its record's own id.
        folder: Where the file lies; None is the system's folder for temporary files.

    Attributes:
        counts: How many records were cut, and more (`record_counts.count_records`).
    """

    def __init__(
        self,
        records: Records,
        encode: Callable[[Records], list[EncodedRecord]],
        folder: Path | None = None,
    ) -> None:
        self._records = records
        self._file = RaggedFile.nameless(np.int32, folder)
        self._prompts = np.zeros(len(records), dtype=np.int64)
        self._lengths = np.zeros(len(records), dtype=np.int64)
        self._cuts = np.zeros((len(records), 3), dtype=bool)
        self._scored: dict[int, tuple[bool, ...]] = {}
        self.counts: Counter[str] = Counter()
        for places in shard_places(len(records), SHARD_RECORDS):
            first, last = int(places[0]), int(places[-1])
            self._append(slice(first, last + 1), encode(records[first : last + 1]))
        self._starts = self._lengths.cumsum() - self._lengths

    def _append(self, places: slice, encoded: Sequence[EncodedRecord]) -> None:
        self.counts.update(count_records(encoded))
        self._prompts[places] = [len(record.prompt_ids) for record in encoded]
        self._lengths[places] = [len(record) for record in encoded]
        self._cuts[places] = [(one.prompt_cut, one.response_cut, one.unended) for one in encoded]
        places_in_order = range(places.start, places.stop)
        for place, record in zip(places_in_order, encoded, strict=True):
            if record.scored is not None:
                self._scored[place] = record.scored
        ids = chain.from_iterable(chain(one.prompt_ids, one.response_ids) for one in encoded)
        self._file.append(np.fromiter(ids, dtype=np.int32))

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
        record, prompt = self._records[index], int(self._prompts[index])
        ids = self._file.read(self._starts[[index]], self._lengths[[index]]).tolist()
        prompt_cut, response_cut, unended = self._cuts[index].tolist()
        return EncodedRecord(
            record.id,
            record.task,
            tuple(ids[:prompt]),
            tuple(ids[prompt:]),
            prompt_cut=prompt_cut,
            response_cut=response_cut,
            scored=self._scored.get(index % len(self)),
            unended=unended,
        )
