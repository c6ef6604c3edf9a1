"""Rows from the store against the teacher's own, and who may write it when."""

import fcntl
import shutil
import threading
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from common.errors import UserError
from datamodules.batches import EncodedRecord, InstructionBatch, collate
from kdmodules.responses import ResponseContext
from kdmodules.teacher_cache import CachedTeachers, CacheJob, TeacherCache
from kdmodules.teachers import Teachers, TeacherWeights
from tests.kdmodules.teacher_cache.conftest import GivenTeachers, MakeJob


def every_record(job: CacheJob) -> list[EncodedRecord]:
    return [*job.context.records, *job.development]


def log_probabilities(hidden: Tensor, head: Tensor) -> Tensor:
    return (hidden.double() @ head.double().T).log_softmax(-1)


@torch.no_grad()
def assert_rows(cached: CachedTeachers, teachers: GivenTeachers, batch: InstructionBatch) -> None:
    """The same log-probabilities as the teacher's to 1e-6, at every scored token."""
    ((hidden, (head, _, _)),) = cached.rows(batch)
    (lm,) = teachers.given
    expected = log_probabilities(lm.hidden(batch), lm.head.weight)
    torch.testing.assert_close(log_probabilities(hidden, head), expected, atol=1e-6, rtol=0)


def test_rows_are_the_teachers_in_any_batch(make_job: MakeJob) -> None:
    job, teachers = make_job()
    cached = job.open()
    assert teachers.loads == 1
    records = every_record(job)
    filler = replace(records[3], record_id="", response_ids=())
    for chosen, side in (
        (records[::-1], "right"),
        ([records[9], filler, records[2], records[9]], "right"),
        ([records[0], records[6]], "left"),
    ):
        assert_rows(cached, teachers, collate(chosen, pad_id=1, padding_side=side))
    ((hidden, (head, _, _)),) = cached.rows(collate([filler], pad_id=1))
    assert hidden.shape == (0, head.shape[1])
    again, idle = make_job()
    assert_rows(again.open(), teachers, collate(records, pad_id=1))
    assert idle.loads == 0


def test_other_texts_are_refused(make_job: MakeJob) -> None:
    job, _ = make_job()
    cached, record = job.open(), job.context.records[4]
    other_token = replace(record, response_ids=(7, *record.response_ids[1:]))
    other_prompt = replace(record, prompt_ids=(7, *record.prompt_ids[1:]))
    moved = replace(
        record,
        prompt_ids=(*record.prompt_ids, record.response_ids[0]),
        response_ids=record.response_ids[1:],
    )
    for changed in (other_token, other_prompt, moved):
        assert changed != record
        with pytest.raises(ValueError, match="record 'r4' has other tokens"):
            cached.rows(collate([job.context.records[0], changed], pad_id=1))


def test_what_a_store_depends_on(make_job: MakeJob, tmp_path: Path) -> None:
    job, _ = make_job()
    texts = job.texts()
    folder = str(tmp_path / "store")
    changed = [
        replace(job, cache=TeacherCache(folder, dtype="bfloat16")),
        replace(job, cache=TeacherCache(folder, kind="top_k", k=8)),
        replace(job, cache=TeacherCache(folder, kind="top_k", k=9)),
        replace(job, development=job.development[1:]),
        replace(job, responses=None),
        replace(job, teachers=Teachers(job.teachers.sources, TeacherWeights("bfloat16"))),
    ]
    assert len({one.path(one.texts()) for one in [job, *changed]}) == 7
    assert replace(job, development=job.development[::-1]).path(texts) == job.path(texts)
    weights = Path(job.teachers.sources[0])
    copy = tmp_path / "copy"
    shutil.copytree(weights, copy)
    named = replace(job, teachers=GivenTeachers((), str(copy)))
    assert named.path(texts) == job.path(texts)
    (file,) = copy.glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert named.path(texts) != job.path(texts)


def test_half_a_store_is_never_read(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job, teachers = make_job()
    path = job.path(job.texts())

    def broken(batch: InstructionBatch) -> Any:
        raise MemoryError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(teachers, "rows", broken)
        with pytest.raises(MemoryError):
            job.open()
    unfinished = path.with_suffix(".unfinished")
    (unfinished / "texts-0-7.safetensors").write_bytes(b"left over")
    assert not path.exists()
    assert_rows(job.open(), teachers, collate(every_record(job), pad_id=1))
    assert not unfinished.exists()
    assert not list(path.glob("*-7.safetensors"))


@pytest.mark.parametrize("finished", [True, False])
def test_a_second_process_waits_for_the_first(finished: bool, make_job: MakeJob) -> None:
    job, teachers = make_job()
    path = job.path(job.texts())
    job.open()
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    opened: list[CachedTeachers] = []
    waiting = threading.Thread(target=lambda: opened.append(job.open()))
    with path.with_suffix(".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        assert not path.with_suffix(".unfinished").exists()
        if finished:
            elsewhere.rename(path)
    waiting.join(20)
    # Where the first was killed, its lock is gone and the second asks the teachers itself.
    assert teachers.loads == (1 if finished else 2)
    assert_rows(opened[0], teachers, collate(every_record(job), pad_id=1))


class ThreadedContext(ResponseContext):
    """A rank that is a thread."""

    def gather(self, own: list[Any]) -> list[Any]:
        self.board[self.rank] = own
        self.barrier.wait()
        found = [item for rank in sorted(self.board) for item in self.board[rank]]
        self.barrier.wait()
        return found


def test_ranks_share_the_work(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdmodules.teacher_cache.build._BATCH_RECORDS", 4)
    job, teachers = make_job()
    ThreadedContext.board, ThreadedContext.barrier = {}, threading.Barrier(3, timeout=20)
    values = {one.name: getattr(job.context, one.name) for one in fields(ResponseContext)}
    asked: dict[int, int] = dict.fromkeys(range(3), 0)
    opened: dict[int, CachedTeachers] = {}

    def work(rank: int) -> None:
        context = ThreadedContext(**{**values, "rank": rank, "world_size": 3})
        own = GivenTeachers(teachers.given, job.teachers.sources[0])
        rows = own.rows

        def counted(batch: InstructionBatch) -> Any:
            asked[rank] += 1
            return rows(batch)

        own.rows = counted
        opened[rank] = replace(job, context=context, teachers=own, load=own.fetch).open()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    # Four batches for three ranks: all step twice, and what two repeat is written once.
    assert asked == {0: 2, 1: 2, 2: 2}
    assert len({cached.store.path for cached in opened.values()}) == 1
    for cached in opened.values():
        assert_rows(cached, teachers, collate(every_record(job), pad_id=1))
    assert len(opened[0].store) == 15
    written = [file.name for file in opened[0].store.path.glob("texts-*")]
    assert {name.split("-")[1] for name in written} == {"0", "1", "2"}
    assert len(written) == 4
    assert opened[0].store.n_rows == sum(len(one.response_ids) for one in every_record(job))


@torch.no_grad()
def test_half_precision_keeps_its_bound(make_job: MakeJob, tmp_path: Path) -> None:
    job, teachers = make_job(TeacherCache(str(tmp_path), dtype="bfloat16"))
    cached, batch = job.open(), collate(every_record(job), pad_id=1)
    ((hidden, (head, _, _)),) = cached.rows(batch)
    (lm,) = teachers.given
    exact = lm.hidden(batch)
    assert hidden.dtype == torch.bfloat16
    apart = (log_probabilities(hidden, head) - log_probabilities(exact, head)).abs().amax(-1)
    # Each logit moves by at most 2^-8 of the sum of its terms, a log-probability by twice the most.
    bound = 2 * 2**-8 * (exact.double().abs() @ head.double().abs().T).amax(-1)
    assert (apart <= bound).all()
    assert apart.max() > 1e-5


@torch.no_grad()
def test_the_likeliest_tokens_are_kept(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several chunks in a batch, that their rows are put together again.
    monkeypatch.setattr("kdmodules.teacher_cache.cached._CHUNK_BYTES", 300 * 4 * 5)
    job, teachers = make_job(TeacherCache(str(tmp_path), kind="top_k", k=7))
    cached, batch = job.open(), collate(every_record(job), pad_id=1)
    (rows,) = cached.rows(batch)
    (lm,) = teachers.given
    exact = log_probabilities(lm.hidden(batch), lm.head.weight)
    kept, _ = exact.sort(dim=-1, descending=True)
    torch.testing.assert_close(rows.logp.double(), kept[:, :7], atol=1e-6, rtol=0)
    torch.testing.assert_close(exact.gather(1, rows.ids), kept[:, :7], atol=1e-6, rtol=0)
    torch.testing.assert_close(rows.tail.double(), kept[:, 7:].logsumexp(-1), atol=1e-5, rtol=0)
    assert not list(cached.store.path.glob("head*"))
    wide, _ = make_job(TeacherCache(str(tmp_path), kind="top_k", k=300))
    with pytest.raises(UserError, match="k is 300 of 300 tokens"):
        wide.open()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["full", "top_k"])
def test_bias_and_soft_cap_are_kept(make_job: MakeJob, tmp_path: Path, kind: str) -> None:
    job, teachers = make_job(TeacherCache(str(tmp_path), kind=kind, k=7))
    (lm,) = teachers.given
    lm.model.lm_head.bias = torch.nn.Parameter(torch.linspace(-1, 1, lm.vocabulary_size))
    lm.model.config.final_logit_softcapping = 0.5
    cached, batch = job.open(), collate(every_record(job), pad_id=1)
    (rows,) = cached.rows(batch)
    logits = lm.model.lm_head(lm.hidden(batch)).double()
    exact = (0.5 * (logits / 0.5).tanh()).log_softmax(-1)
    if kind == "full":
        hidden, head = rows
        found = head.logits(hidden).double().log_softmax(-1)
    else:
        found, exact = rows.logp.double(), exact.gather(1, rows.ids)
    torch.testing.assert_close(found, exact, atol=1e-6, rtol=0)
