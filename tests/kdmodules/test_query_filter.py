"""The query filter: its measures against plain logits, whom it leaves out, and that nobody asks."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from common.errors import UserError
from datamodules.batches import FILLER_ID
from kdmodules.losses import ForwardKL
from kdmodules.query_filter import QueryFilter
from kdmodules.responses import DatasetResponses, ResponseSource, TeacherResponses
from kdmodules.sampling.sampler import SamplingSettings
from kdmodules.student import StudentModule
from tests.kdmodules.student_runs import make_data, make_student, make_trainer, write_teacher


class Watched(pl.Callback):
    """Remembers the records that were scored, and what was left out."""

    def __init__(self) -> None:
        self.scored: set[str] = set()
        self.values: dict[str, float] = {}
        self.naive: dict[str, float] = {}

    def on_train_start(self, trainer: pl.Trainer, module: StudentModule) -> None:
        context = module._context(0)
        chosen = module.query_filter
        served = module.data.tokens("public", module.data.training_records("public"))
        self.values = chosen.values(served, context.teachers, context.student, context.encoder)
        for record in served:
            self.naive[record.record_id] = naive(chosen, record, context)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: StudentModule, outputs: Any, *_: Any
    ) -> None:
        batch = outputs["trained_on"]
        for name, mask in zip(batch.record_ids, batch.response_mask, strict=True):
            assert (name == FILLER_ID) == (not mask.any())
            self.scored.add(name)


@torch.no_grad()
def naive(chosen: QueryFilter, record: Any, context: Any) -> float:
    """The measure of one record, from whole logits in float64."""
    ids = torch.tensor([record.prompt_ids + record.response_ids])
    start = len(record.prompt_ids)

    def logp(lm: Any) -> torch.Tensor:
        size = context.student.vocabulary_size
        logits = lm.model.eval()(ids).logits[0, start - 1 : -1, :size].double()
        return logits.log_softmax(-1)

    (taught,) = map(logp, context.teachers)
    if chosen.measure == "entropy":
        return float(-(taught.exp() * taught).sum(-1).mean())
    own = ids[0, start:, None]
    return float((taught.gather(1, own) - logp(context.student).gather(1, own)).mean())


def filtered(
    folder: Path, chosen: QueryFilter, source: ResponseSource, **options: Any
) -> tuple[StudentModule, Watched, pl.Trainer]:
    data = make_data(folder)
    plain = make_student(write_teacher(folder, data), source)
    student = StudentModule(
        plain.network,
        plain.optimizer,
        list(plain.teachers.sources),
        ForwardKL(),
        source,
        seed=1,
        query_filter=chosen,
    )
    watched = Watched()
    trainer = make_trainer(folder, **{"max_epochs": 1, "limit_val_batches": 0, **options})
    trainer.callbacks.append(watched)
    return student, watched, trainer


@pytest.mark.parametrize(
    "chosen",
    [
        QueryFilter(share=0.25),
        QueryFilter("likelihood_ratio", 0.1, "lowest"),
    ],
)
def test_the_most_extreme_are_left_out_and_the_others_trained_on(
    chosen: QueryFilter, tmp_path: Path
) -> None:
    student, watched, trainer = filtered(tmp_path, chosen, DatasetResponses())
    trainer.fit(student, make_data(tmp_path))
    names = list(watched.values)
    found = torch.tensor([watched.values[name] for name in names])
    expected = torch.tensor([watched.naive[name] for name in names])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    ranked = sorted(names, key=watched.naive.get, reverse=chosen.extreme == "highest")
    out = set(ranked[: round(chosen.share * len(ranked))])
    assert watched.scored - {FILLER_ID} == set(names) - out
    assert FILLER_ID in watched.scored


def test_the_teacher_writes_nothing_for_what_is_left_out_and_a_resume_keeps_to_it(
    tmp_path: Path,
) -> None:
    chosen = QueryFilter("likelihood_ratio", 0.3)
    source = TeacherResponses(SamplingSettings(max_new_tokens=3))
    checkpoint = ModelCheckpoint(
        tmp_path, "last", every_n_train_steps=4, save_on_train_epoch_end=False
    )
    options = {"enable_checkpointing": True, "callbacks": [checkpoint], "max_steps": 4}
    student, _, trainer = filtered(tmp_path, chosen, source, **options)
    trainer.fit(student, make_data(tmp_path))
    left_out = set(student._left_out)
    assert left_out
    assert not left_out & set(source._responses)
    again, watched, trainer = filtered(tmp_path, chosen, TeacherResponses(source.sampling))
    trainer.fit(again, make_data(tmp_path), ckpt_path=tmp_path / "last.ckpt")
    assert set(again._left_out) == left_out
    assert not watched.scored & left_out


def test_shares_that_leave_none_or_all_are_refused(tmp_path: Path) -> None:
    for share in (0.0, 1.0):
        with pytest.raises(UserError, match="share"):
            QueryFilter(share=share)
    student, _, trainer = filtered(tmp_path, QueryFilter(share=1e-4), DatasetResponses())
    with pytest.raises(UserError, match="leaves 0 of them out"):
        trainer.fit(student, make_data(tmp_path))
