"""A save that is cut off leaves the checkpoint before it."""

from pathlib import Path

import pytest
from lightning.pytorch import Trainer

from studies.cli import main
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
