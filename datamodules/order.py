"""Which records a rank sees in which micro-batch: a pure function of (seed, epoch)."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch.utils.data import DataLoader, Dataset

from common.keys import key, torch_generator
from datamodules.batches import FILLER_ID, EncodedRecord, InstructionBatch, collate, length_buckets

_BATCHES_SORTED_TOGETHER = 16


@dataclass(frozen=True, slots=True)
class Slot:
    """A row of a micro-batch: a record, or a filler that keeps a rank in step.

    Attributes:
        index: position of the record.
        scored: False for a filler, which carries the record's prompt and no response.
    """

    index: int
    scored: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOrder:
    """Deals global batches to accumulation steps and ranks; nothing is dropped or comes twice.

    Attributes:
        record_ids: id of each record of the split.
        batch_size: records of a global batch, over all ranks and accumulation steps.
        accumulate: micro-batches of a global batch on each rank.
        world_size: number of ranks.
        rank: this rank.
        seed: of the order.
        lengths: tokens of each record where batches are to hold records of similar length, else
            None.
    """

    record_ids: Sequence[str]
    batch_size: int
    accumulate: int
    world_size: int
    rank: int
    seed: int
    lengths: Sequence[int] | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What fixes the order of batches, for a checkpoint."""
        return {
            "training records": key(*self.record_ids),
            "batch_size": self.batch_size,
            "accumulate_grad_batches": self.accumulate,
            "seed": self.seed,
            "group_by_length": self.lengths is not None,
        }

    def __len__(self) -> int:
        """Micro-batches of an epoch, the same on every rank."""
        return -(-len(self.record_ids) // self.batch_size) * self.accumulate

    def micro_batches(self, epoch: int) -> list[list[Slot]]:
        """This rank's micro-batches of an epoch.

        A rank that gets no record of a micro-batch gets the global batch's first one as a filler,
        so that all ranks run the same number of micro-batches and every global batch has
        `accumulate` of them.
        """
        parts = self.accumulate * self.world_size
        micro_batches = []
        for batch in self.global_batches(epoch):
            for step in range(self.accumulate):
                mine = batch[step * self.world_size + self.rank :: parts]
                micro_batches.append(
                    [Slot(index) for index in mine] or [Slot(batch[0], scored=False)]
                )
        return micro_batches

    def global_batches(self, epoch: int) -> list[list[int]]:
        """Positions of the records of each global batch; only the last may be smaller."""
        order = self._shuffled(epoch)
        size = self.batch_size
        if self.lengths is None:
            return [order[i : i + size] for i in range(0, len(order), size)]
        whole = len(order) // size * size
        batches = []
        for start in range(0, whole, size * _BATCHES_SORTED_TOGETHER):
            stretch = order[start : min(start + size * _BATCHES_SORTED_TOGETHER, whole)]
            stretch.sort(key=self.lengths.__getitem__)
            batches += [stretch[i : i + size] for i in range(0, len(stretch), size)]
        batches.sort(
            key=lambda batch: key(self.seed, "batch order", epoch, self.record_ids[batch[0]])
        )
        return batches + ([order[whole:]] if whole < len(order) else [])

    def _shuffled(self, epoch: int) -> list[int]:
        """Positions by keyed hash: a record's place beside another does not depend on the rest.

        Repeated records have one id; the count of the repetition spreads them over the epoch.
        """
        seen: Counter[str] = Counter()
        places = []
        for index, record_id in enumerate(self.record_ids):
            places.append((key(self.seed, "order", epoch, record_id, seen[record_id]), index))
            seen[record_id] += 1
        return [index for _, index in sorted(places)]


def evaluation_order(
    lengths: Sequence[int], batch_size: int, rank: int, world_size: int
) -> list[list[Slot]]:
    """Length-sorted batches dealt to ranks; the same batches whatever the number of ranks.

    Args:
        lengths: tokens of each record.
        batch_size: most records of a batch.
        rank: this rank.
        world_size: number of ranks.

    Returns:
        As many batches on every rank; where they do not divide, a batch of one filler.
    """
    buckets = length_buckets(lengths, batch_size, max_tokens=None)
    mine = [[Slot(index) for index in bucket] for bucket in buckets[rank::world_size]]
    missing = -(-len(buckets) // world_size) - len(mine)
    return mine + [[Slot(buckets[-1][0], scored=False)]] * missing


@dataclass(frozen=True)
class _SlotRecords(Dataset[EncodedRecord]):
    encoded: Sequence[EncodedRecord]

    def __getitem__(self, slot: Slot) -> EncodedRecord:
        record = self.encoded[slot.index]
        return (
            record
            if slot.scored
            else replace(record.last_turn, record_id=FILLER_ID, response_ids=())
        )


@dataclass(eq=False)
class RecordLoader:
    """Serves the batches of a plan, from the micro-batch on at which an interrupted epoch stopped.

    Lightning builds the iterator of a resumed epoch before it has restored its own progress (a
    module that asks for `estimated_stepping_batches` has the loader built even earlier), so epoch
    and starting place are looked up when the first batch is asked for. Workers, if any, are started
    then as well, and their seeds come from a generator of the loader's own: serving batches leaves
    torch's global generator untouched.

    Attributes:
        encoded: the records.
        plan: batches of an epoch.
        n_batches: number of batches of a whole epoch.
        start: looks up the first micro-batch to serve, 0 but in an epoch that is resumed.
        pad_id: id of padding.
        num_workers: processes that build batches beside this one.
        epoch: the epoch whose batches come next.
    """

    encoded: Sequence[EncodedRecord]
    plan: Callable[[int], list[list[Slot]]]
    n_batches: int
    start: Callable[[], int]
    pad_id: int
    num_workers: int
    epoch: int = 0

    batch_sampler = None
    """Lightning asks every loader with a `sampler` for one."""

    def __len__(self) -> int:
        return self.n_batches

    @property
    def sampler(self) -> "RecordLoader":
        """Where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Takes the epoch whose batches come next; Lightning calls it before each."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """Nothing: the place in the epoch is Lightning's own progress, read when iteration starts.

        Lightning takes a loader without this method for one that cannot resume, and warns.
        """
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Takes what `state_dict` gave."""

    def __iter__(self) -> Iterator[InstructionBatch]:
        batches, records = self.plan(self.epoch)[self.start() :], _SlotRecords(self.encoded)
        if self.num_workers == 0:
            for slots in batches:
                yield collate([records[slot] for slot in slots], self.pad_id)
            return
        yield from DataLoader(
            records,
            batch_sampler=batches,
            collate_fn=partial(collate, pad_id=self.pad_id),
            num_workers=self.num_workers,
            generator=torch_generator("loader workers", self.epoch),
        )
