"""A first-in-first-out buffer of generated responses, the same on every rank."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from common.keys import key
from common.options import require_at_least
from datamodules.batches import EncodedRecord, InstructionBatch, collate
from kdmodules.responses.rewriting import is_filler, records_of
from kdmodules.responses.source import ResponseContext


class ReplayBuffer:
    """Sequences that were generated before, to be trained on again.

    Args:
        capacity: Most sequences; a push beyond it drops the oldest.

    Raises:
        UserError: If ``capacity`` is below 1.
    """

    def __init__(self, capacity: int) -> None:
        require_at_least(1, capacity=capacity)
        self.capacity = capacity
        self._records: deque[EncodedRecord] = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[EncodedRecord]:
        """From the oldest to the newest."""
        return iter(self._records)

    @property
    def full(self) -> bool:
        """Whether the next push drops an entry."""
        return len(self._records) == self.capacity

    def push(self, records: Iterable[EncodedRecord]) -> None:
        """Adds sequences in the order of their ids, which is the same however ranks shared them."""
        self._records.extend(sorted(records, key=lambda record: record.record_id))

    def draw(self, batch: InstructionBatch, context: ResponseContext) -> InstructionBatch:
        """Returns a batch of the same number of rows from the buffer; fillers stay fillers.

        Which entry a row draws is keyed by (seed, step, the record that it replaces), with
        replacement, so that neither its batch nor the number of ranks changes it.
        """
        rows = [
            record
            if is_filler(record)
            else self._records[
                key(context.seed, "replay", context.step, record.record_id) % len(self._records)
            ]
            for record in records_of(batch)
        ]
        return collate(rows, context.vocabulary.pad_id).to(batch.input_ids.device)

    def state(self) -> list[list[Any]]:
        """Returns the entries as plain lists, for a checkpoint."""
        return [
            [r.record_id, r.task, list(r.prompt_ids), list(r.response_ids)] for r in self._records
        ]

    def restore(self, state: list[list[Any]]) -> None:
        """Puts back what :meth:`state` returned."""
        self._records.clear()
        for record_id, task, prompt, response in state:
            self._records.append(EncodedRecord(record_id, task, tuple(prompt), tuple(response)))
