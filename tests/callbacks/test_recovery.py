"""What a run that is killed in a save, or in its last audits, goes on from."""

from pathlib import Path

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.schedule import FinalValidation
from callbacks.weights import RecoveryCheckpoint
from kd_privacy.cli import main
from tests.callbacks.test_last_validation import BATCHES, Constant
from tests.integration.conftest import fragments


def test_a_save_that_is_cut_off_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a file is what a copy from another file system leaves behind."""
    saved = []

    def cut_off(trainer: object, filepath: Path, weights_only: bool) -> None:
        whole(trainer, filepath, weights_only)
        if saved:
            filepath.write_bytes(filepath.read_bytes()[:1000])
            raise KeyboardInterrupt
        saved.append(filepath.read_bytes())

    whole = Trainer.save_checkpoint
    monkeypatch.setattr(Trainer, "save_checkpoint", cut_off)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        main([*fragments("teacher"), "--recovery.save_every_n_steps=2", f"--run_dir={tmp_path}"])
    assert (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == saved[0]


class Validated(Callback):
    """Steps whose weights were validated; ends the process, as it were, in one of them."""

    def __init__(self, ends_in: int | None = None) -> None:
        self.ends_in = ends_in
        self.steps: list[int] = []

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == self.ends_in:
            raise RuntimeError("killed in its last audits")
        self.steps.append(trainer.global_step)


def test_a_run_that_is_killed_in_its_last_audits_has_them_after_a_resume(tmp_path: Path) -> None:
    """Ends in mid-epoch, at a step at which a save is due: nothing was left to resume."""

    def trained(watch: Validated, ckpt_path: str | None = None) -> None:
        trainer = Trainer(
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=tmp_path,
            max_steps=25,
            callbacks=[FinalValidation(), watch, RecoveryCheckpoint(save_every_n_steps=5)],
        )
        trainer.fit(Constant(), BATCHES, BATCHES, ckpt_path=ckpt_path, weights_only=False)

    with pytest.raises(RuntimeError, match="killed"):
        trained(Validated(ends_in=25))
    resumed = Validated()
    trained(resumed, str(tmp_path / "checkpoints" / "last.ckpt"))
    assert resumed.steps == [25]
