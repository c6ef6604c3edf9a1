"""The last planned validation against what fits of every rhythm really do."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

from callbacks.schedule import FinalValidation, is_last_validation


class Constant(LightningModule):
    """Takes steps that change nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        return (self.weight * batch).sum()

    def validation_step(self, batch: torch.Tensor, index: int) -> None:
        """Nothing to measure."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Flags(Callback):
    """What is said at the end of every validation."""

    def __init__(self) -> None:
        self.said: list[bool] = []

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.said.append(is_last_validation(trainer))


BATCHES = DataLoader(torch.ones(10, 1), batch_size=1)


def said(*others: Callback, **options: object) -> list[bool]:
    flags = Flags()
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*others, flags],
        **options,
    )
    trainer.fit(Constant(), BATCHES, BATCHES)
    return flags.said


@pytest.mark.parametrize(
    ("options", "validations"),
    [
        ({"max_epochs": 3}, 3),
        ({"max_epochs": 4, "check_val_every_n_epoch": 2}, 2),
        ({"max_epochs": 5, "check_val_every_n_epoch": 2}, 2),
        ({"max_epochs": 2, "val_check_interval": 0.5}, 4),
        ({"max_epochs": 2, "val_check_interval": 4}, 4),
        ({"max_epochs": 2, "val_check_interval": 6, "check_val_every_n_epoch": None}, 3),
        ({"max_epochs": 3, "limit_train_batches": 4}, 3),
        ({"max_steps": 20}, 2),
        ({"max_steps": 25}, 2),
        ({"max_steps": 12, "max_epochs": 9}, 1),
        ({"max_steps": 99, "max_epochs": 2}, 2),
        ({"max_epochs": 3, "accumulate_grad_batches": 4}, 3),
        ({"max_steps": 8, "max_epochs": -1, "accumulate_grad_batches": 2}, 1),
        ({"max_steps": 10, "max_epochs": -1, "accumulate_grad_batches": 2}, 2),
    ],
    ids=str,
)
def test_exactly_the_last_validation_of_a_fit_is_named(
    options: dict[str, object], validations: int
) -> None:
    assert said(**options) == [False] * (validations - 1) + [True]


@pytest.mark.parametrize(
    ("options", "validations"),
    [
        ({"max_epochs": 3}, 3),
        ({"max_epochs": 5, "check_val_every_n_epoch": 2}, 3),
        ({"max_epochs": 2, "val_check_interval": 4}, 5),
        ({"max_epochs": 2, "val_check_interval": 6, "check_val_every_n_epoch": None}, 4),
        ({"max_steps": 20}, 2),
        ({"max_steps": 25}, 3),
        ({"max_steps": 12, "max_epochs": 9}, 2),
        ({"max_steps": 99, "max_epochs": 2}, 2),
    ],
    ids=str,
)
def test_the_end_of_a_fit_is_its_last_validation_where_it_is_validated(
    options: dict[str, object], validations: int
) -> None:
    found = said(FinalValidation(), **options)
    assert found == [False] * (validations - 1) + [True]


class Stop(Callback):
    """Stops a fit at the end of a validation, as early stopping does."""

    def __init__(self, validation: int) -> None:
        self.left = validation

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.left -= 1
            trainer.should_stop = self.left <= 0


class Timer(Callback):
    """Stops a fit at the end of a batch, as a limit of time does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *arguments: object) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step >= self.step


@pytest.mark.parametrize(
    ("stopper", "options", "validations"),
    [
        (Stop(2), {"max_epochs": 5}, 3),
        (Stop(1), {"max_epochs": 5, "min_epochs": 3}, 3),
        (Stop(3), {"max_epochs": 3}, 3),
        (Timer(14), {"max_epochs": 5}, 2),
        (Timer(10), {"max_epochs": 5}, 1),
    ],
    ids=["stopped", "not before min_epochs", "at the end", "between", "at a validation"],
)
def test_a_fit_that_is_stopped_has_a_last_validation(
    stopper: Callback, options: dict[str, object], validations: int
) -> None:
    """One more than there was, where that was not known to be the last."""
    assert said(FinalValidation(), stopper, **options) == [False] * (validations - 1) + [True]


def test_a_validation_that_stands_alone_is_the_last() -> None:
    flags = Flags()
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[flags]
    )
    trainer.validate(Constant(), BATCHES, verbose=False)
    assert flags.said == [True]
