"""Asking the teachers once: who does it, in which order, and what everybody else waits for."""

import fcntl
import hashlib
import json
import os
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from common.atomic_file import make_private
from common.errors import UserError
from datamodules.batches import EncodedRecord, InstructionBatch, collate, length_buckets
from datamodules.tokenizer import vocabulary_hash
from kdmodules.losses import HeadRows
from kdmodules.models.causal_lm import model_device
from kdmodules.models.head import Head, as_head
from kdmodules.responses import ResponseContext, ResponseSource
from kdmodules.responses.rewriting import records_of
from kdmodules.teacher_cache.cached import CachedTeachers, stored_columns
from kdmodules.teacher_cache.identity import distinct_texts, row_hashes, source_hash
from kdmodules.teacher_cache.settings import TeacherCache
from kdmodules.teacher_cache.store import INDEX, Span, begin, damage_of, finish, write_tensors
from kdmodules.teachers import Teachers

_FORMAT = 4
_BATCH_RECORDS = 64
_BATCH_TOKENS = 8192


def fixed_texts(responses: ResponseSource, context: ResponseContext) -> Iterator[EncodedRecord]:
    """Yields what the student will train on: the records with the source's responses.

    Args:
        responses: A source of fixed text that has prepared.
        context: Of the run, before its first step.
    """
    for start in range(0, len(context.records), _BATCH_RECORDS):
        part = collate(context.records[start : start + _BATCH_RECORDS], context.encoder.pad_id)
        yield from records_of(responses.replace(part, context))


@dataclass(frozen=True)
class CacheJob:
    """One question to the teachers, and where its answer is kept.

    Attributes:
        cache: The options.
        teachers: Who is asked.
        load: Loads the teachers where that was not done; called where the answer is not there yet.
        development: Records of the development loss.
        responses: Source of fixed text that has prepared; None where no step asks the teachers.
        context: Ranks, student, tokenizer and private folder.
    """

    cache: TeacherCache
    teachers: Teachers
    load: Callable[[], None]
    development: Sequence[EncodedRecord]
    responses: ResponseSource | None
    context: ResponseContext

    def open(self) -> CachedTeachers:
        """Returns the answer, which is computed first where it is not there; work for all ranks.

        Where another process is computing it, this one waits. The student is told how many tokens
        are valid, as where teachers are loaded (`Teachers.share_tokens`).

        Raises:
            UserError: If a teacher cannot be loaded, the store cannot be read or is not what was
                written, or as many tokens are to be kept as there are.
        """
        context = self.context
        size = context.student.vocabulary_size
        if self.cache.kind == "top_k" and self.cache.k >= size:
            raise UserError(
                f"model.teacher_cache.k is {self.cache.k} of {size} tokens: give less, or take full"
            )
        texts = self.texts()
        first = context.gather([self.path(texts) if context.rank == 0 else None])[0]
        if first is None:
            raise RuntimeError("rank 0 named no store")
        with _lock(first, active=context.rank == 0):
            if not context.gather([_is_whole(first) if context.rank == 0 else None])[0]:
                self._build(first, texts)
        damage = context.gather([damage_of(first) if context.rank == 0 else None])[0]
        if damage is not None:
            raise UserError(
                f"the cached teacher in {first} {damage}: delete that folder to have it written "
                "anew"
            )
        cached = CachedTeachers(first, model_device(context.student))
        # The teachers may have fewer tokens than the student, and are loaded by the first run only.
        context.student.vocabulary_size = min(size, cached.vocabulary_size)
        context.encoder.limit_rows(context.student.vocabulary_size)
        return cached

    def texts(self) -> dict[str, EncodedRecord]:
        """Returns what the teachers are asked about, by hash; the same on every rank."""
        asked = list(self.development)
        if self.responses is not None:
            asked += fixed_texts(self.responses, self.context)
        return dict(distinct_texts(asked, self.context.encoder.pad_id))

    def path(self, texts: Mapping[str, EncodedRecord]) -> Path:
        """Returns the folder of the store, which is named by all that it depends on."""
        cache, context, weights = self.cache, self.context, self.teachers.weights
        about = [
            _FORMAT,
            [source_hash(source, weights.adapter_base) for source in self.teachers.sources],
            weights.precision,
            vocabulary_hash(context.encoder.tokenizer),
            context.student.vocabulary_size,
            cache.contents,
            sorted(texts),
        ]
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
        folder = Path(cache.folder).expanduser() if cache.folder else context.private_folder
        return folder / f"teacher-{digest}"

    def _build(self, path: Path, texts: Mapping[str, EncodedRecord]) -> None:
        context, unfinished = self.context, path.with_suffix(".unfinished")
        rank_zero_info(f"Asking the teachers about {len(texts)} texts, once, into {path}")
        if context.rank == 0:
            begin(unfinished)
        context.gather([None])
        self.load()
        rows: Sequence[HeadRows] = ()
        spans: dict[str, Span] = {}
        for number, (batch, counts) in enumerate(self._batches(list(texts.values()))):
            rows = self._ask(batch)
            if counts:
                file = f"texts-{context.rank}-{number}"
                columns = stored_columns(self.cache, rows, context.student.vocabulary_size)
                write_tensors(unfinished, file, columns)
                spans |= _spans(file, batch)
        if context.rank == 0 and self.cache.kind == "full":
            for index, head in enumerate(self._heads(rows)):
                for name, part in (("head", head.weight), ("bias", head.bias)):
                    if part is not None:
                        write_tensors(
                            unfinished, f"{name}-{index}", {f"{name}-{index}": part.float()}
                        )
        every = context.gather([spans])
        if context.rank == 0:
            about = {
                "sources": list(self.teachers.sources),
                "vocabulary_size": context.student.vocabulary_size,
                "soft_caps": [head.soft_cap for head in self._heads(rows)],
                "biases": [head.bias is not None for head in self._heads(rows)],
            }
            finish(unfinished, path, dict(ChainMap(*every)), about)
        context.gather([None])

    def _heads(self, rows: Sequence[HeadRows]) -> list[Head]:
        """Returns the teachers' heads of the student's tokens."""
        return [as_head(head).rows(self.context.student.vocabulary_size) for _, head in rows]

    def _ask(self, batch: InstructionBatch) -> tuple[HeadRows, ...]:
        # In float32 whatever the run trains in: the store of every run is the same.
        with torch.autocast(batch.input_ids.device.type, enabled=False):
            return self.teachers.rows(batch)

    def _batches(self, texts: Sequence[EncodedRecord]) -> Iterator[tuple[InstructionBatch, bool]]:
        """Yields this rank's batches and whether they count.

        Sharded teachers need every rank in every forward pass, so a rank that is short of a batch
        repeats the last one.
        """
        context, device = self.context, model_device(self.context.student)
        buckets = length_buckets([len(text) for text in texts], _BATCH_RECORDS, _BATCH_TOKENS)
        rounds = -(-len(buckets) // context.world_size)
        for number in range(context.rank, rounds * context.world_size, context.world_size):
            bucket = buckets[min(number, len(buckets) - 1)]
            batch = collate([texts[index] for index in bucket], context.encoder.pad_id)
            yield batch.to(device), number < len(buckets)


def _spans(file: str, batch: InstructionBatch) -> dict[str, Span]:
    """Returns where each text of a batch lies in the batch's file."""
    lengths = batch.response_mask.sum(dim=1).tolist()
    starts = accumulate(lengths, initial=0)
    return {
        text: (file, start, length)
        for text, start, length in zip(row_hashes(batch), starts, lengths, strict=False)
        if text is not None
    }


def _is_whole(path: Path) -> bool:
    return (path / INDEX).is_file()


@contextmanager
def _lock(path: Path, active: bool) -> Iterator[None]:
    """Lets one process at a time write a store; the system lifts the lock of one that is killed.

    Args:
        path: The store; a store that is whole needs no lock.
        active: False on ranks that leave it to rank 0.
    """
    if not active or _is_whole(path):
        yield
        return
    make_private(path.parent)
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            rank_zero_info(f"Waiting for another process that asks the teachers, into {path}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
