"""The student as a whole module: which prompts it meets, its first loss, what a resume restores."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules.batches import EncodedRecord
from datamodules.instruction import InstructionDataModule
from datamodules.manifest import read_manifest
from kdmodules.losses import TAID, KDLoss, PolicyGradient, TeacherTopK
from kdmodules.responses import AdaptiveReplay, DatasetResponses, TeacherMixedRollouts, rollouts
from kdmodules.sampling.mixture_sampling import MixtureSettings
from kdmodules.student import StudentModule
from tests.kdmodules.student_runs import make_data, make_student, make_trainer, write_teacher


@pytest.fixture
def data(tmp_path: Path) -> InstructionDataModule:
    torch.set_num_threads(1)
    return make_data(tmp_path)


@pytest.fixture
def teacher(tmp_path: Path, data: InstructionDataModule) -> str:
    return write_teacher(tmp_path, data)


def rolled_out(
    student: StudentModule,
    data: InstructionDataModule,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> list[EncodedRecord]:
    """Trains for two rounds and returns every prompt that was rolled out."""
    seen: list[EncodedRecord] = []
    sample = rollouts.mixture_responses

    def spy(lm: Any, teachers: Any, encoded: Sequence[EncodedRecord], *more: Any, **options: Any):
        seen.extend(encoded)
        return sample(lm, teachers, encoded, *more, **options)

    monkeypatch.setattr(rollouts, "mixture_responses", spy)
    make_trainer(folder, max_steps=16, limit_val_batches=0).fit(student, data)
    return seen


@pytest.mark.parametrize("split", ["public", "private"])
def test_minillm_rolls_out_public_prompts_only(
    split: str,
    teacher: str,
    data: InstructionDataModule,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mixture = MixtureSettings(max_new_tokens=4)
    source = TeacherMixedRollouts(mixture, rollouts=48, inner_epochs=1)
    student = make_student([teacher, teacher], source, PolicyGradient())
    # The second case shows that the check would see a source that is given private records.
    student.training_split = split
    seen = rolled_out(student, data, tmp_path, monkeypatch)
    manifest = read_manifest(tmp_path / "private" / "manifest.parquet")
    public = {row.id for row in manifest if row.split == "public"}
    assert len(seen) == 96
    assert (public >= {record.record_id for record in seen}) == (split == "public")
    prompts = {record.prompt_ids for record in data.tokens("public", data.split("public"))}
    assert (prompts >= {record.prompt_ids for record in seen}) == (split == "public")


class Heard(AdaptiveReplay):
    """Remembers every development loss it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def on_validation_loss(self, loss: float) -> None:
        self.losses.append(loss)
        super().on_validation_loss(loss)


class Modes(pl.Callback):
    """Puts a block into evaluation mode and compares all modes before and after V0."""

    def __init__(self) -> None:
        self.modes: list[list[bool]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.language_model.model.transformer.h[0].eval()
        self.modes.append([module.training for module in pl_module.modules()])

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.modes.append([module.training for module in pl_module.modules()])


def test_the_first_loss_is_a_validations(
    teacher: str, data: InstructionDataModule, tmp_path: Path
) -> None:
    # Batches of unequal token counts: a mean of their means would be another number.
    data.eval_batch_size = 4
    untrained = make_student(teacher, DatasetResponses(), dropout=0.3)
    (metrics,) = make_trainer(tmp_path).validate(untrained, data, verbose=False)
    source, modes = Heard(), Modes()
    student = make_student(teacher, source, dropout=0.3)
    make_trainer(tmp_path, max_steps=1, limit_val_batches=0, callbacks=[modes]).fit(student, data)
    assert source.losses == [pytest.approx(metrics["val/loss"], abs=1e-6)]
    assert source.reference_loss == source.losses[0]
    before, after = modes.modes
    assert before == after
    assert {True, False} == set(before)


@pytest.mark.parametrize("decorated", [False, True])
def test_an_objectives_schedule_survives_a_checkpoint(
    decorated: bool, teacher: str, data: InstructionDataModule, tmp_path: Path
) -> None:
    def objective() -> KDLoss:
        taid = TAID(start=0.2, rate=0.3, momentum=0.5)
        return TeacherTopK(taid, 8) if decorated else taid

    def run(ckpt_path: str | None, stop: bool) -> tuple[StudentModule, Path]:
        student = make_student(teacher, DatasetResponses(), objective(), dropout=0.1)
        saved = tmp_path / "saved"
        keep = ModelCheckpoint(saved, "{step}", every_n_train_steps=3, save_top_k=-1)
        trainer = make_trainer(
            tmp_path,
            max_steps=6,
            limit_val_batches=0,
            enable_checkpointing=True,
            callbacks=[keep, StopAt(3)] if stop else [keep],
        )
        trainer.fit(student, data, ckpt_path=ckpt_path)
        return student, saved / "step=3.ckpt"

    whole, _ = run(None, stop=False)
    (tmp_path / "saved" / "step=3.ckpt").unlink()
    half, path = run(None, stop=True)
    state = torch.load(path, weights_only=True)["state_dict"]
    prefix = "kd_loss.objective." if decorated else "kd_loss."
    buffers = {f"{prefix}{name}" for name in ("interpolation", "trend", "previous")}
    assert buffers <= set(state)
    for name, value in half.kd_loss.state_dict().items():
        assert torch.equal(state[f"kd_loss.{name}"], value)
    # The linear schedule alone stands at 0.2 + 0.8 * 2 / 6 in the third step.
    assert state[f"{prefix}interpolation"] > 0.5
    resumed, _ = run(str(path), stop=False)
    found, expected = resumed.state_dict(), whole.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


class StopAt(pl.Callback):
    """Ends a run early, as a killed one ends."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step >= self.step
