"""Audits keep their steps however often a run validates, and recipes of tiny students do both."""

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import yaml

from audits.context import Measurements
from callbacks.audit import AuditCallback
from callbacks.run import RunContext
from callbacks.schedule import AuditRhythm
from common.errors import UserError
from kdmodules.models.network import Network
from kdmodules.optimization import OptimizerSettings
from kdmodules.teacher import TeacherModule
from tests.kdmodules.student_runs import CONFIG, NO_DROPOUT, make_data, make_trainer

RECIPES = sorted((Path(__file__).parents[2] / "configs/recipes").glob("*/*-tiny.yaml"))


class Counted(AuditCallback):
    """Remembers the epochs at which it was due."""

    audit = "counted"

    def __init__(self, every_n_validations: int | None = None) -> None:
        super().__init__(every_n_validations)
        self.epochs: list[int] = []

    def measure(self, context: RunContext) -> Measurements:
        self.epochs.append(context.trainer.current_epoch + 1)
        return Measurements()


class Validated(pl.Callback):
    """Counts validations."""

    count = 0

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.count += 1


@pytest.mark.parametrize(
    ("rhythm", "own", "epochs"),
    [
        (None, None, [1, 2, 3, 4, 5]),
        pytest.param(2, None, [2, 4, 5], marks=pytest.mark.slow),
        (0, None, [5]),
        pytest.param(3, None, [3, 5], marks=pytest.mark.slow),
        pytest.param(2, 0, [5], marks=pytest.mark.slow),
        (2, 3, [3, 5]),
    ],
)
def test_audits_follow_the_runs_rhythm_or_their_own(
    rhythm: int | None, own: int | None, epochs: list[int], tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    audit, validated = Counted(own), Validated()
    callbacks = [audit, validated, *([] if rhythm is None else [AuditRhythm(rhythm)])]
    module = TeacherModule(Network("gpt2", None, CONFIG | NO_DROPOUT), OptimizerSettings(), seed=1)
    data = make_data(tmp_path, n_records=140, batch_size=60)
    make_trainer(tmp_path, max_epochs=5, callbacks=callbacks).fit(module, data)
    assert audit.epochs == epochs
    assert validated.count == 5


def test_a_negative_rhythm_is_refused() -> None:
    with pytest.raises(UserError, match="audits.every_n_validations is -1"):
        AuditRhythm(-1)
    with pytest.raises(UserError, match="every_n_validations is -2"):
        Counted(-2)


def test_tiny_recipes_validate_every_epoch_and_audit_twice() -> None:
    """A threshold that follows the development loss can move after every epoch."""
    assert len(RECIPES) == 8
    for path in RECIPES:
        recipe = yaml.safe_load(path.read_text())
        assert "check_val_every_n_epoch" not in recipe["trainer"]
        epochs, every = recipe["trainer"]["max_epochs"], recipe["audits"]["every_n_validations"]
        assert epochs == (every if path.parent.name == "init" else 2 * every), path
