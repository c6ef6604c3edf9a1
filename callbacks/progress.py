"""What a fit and a validation show: four lines of what runs, then one bar at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.strategies import FSDPStrategy

from callbacks.run import RunContext, run_identity
from common.progress import OneBar
from datamodules.templates import template_name
from kdmodules.external import ExternalModule
from kdmodules.student import StudentModule


class RunProgress(ProgressBar):
    """Tells model, data, template and device, and shows the innermost of what runs as a bar.

    Where standard error is no terminal, a line comes now and then instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self.display = OneBar()
        self._first_step = 0

    def disable(self) -> None:
        """Shows nothing, as on all ranks but the first."""
        self.display.shown = False

    def enable(self) -> None:
        """Shows everything again."""
        self.display.shown = True

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says what is trained."""
        self._open(RunContext.of(trainer, pl_module))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins the training, or the rest of it."""
        self._first_step = trainer.global_step
        total = trainer.estimated_stepping_batches
        self.display.begin("training", max(0, total - self._first_step))

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Counts the optimiser steps of this process."""
        done = trainer.global_step - self._first_step
        self.display.advance(done, lambda: self._losses(trainer, pl_module))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the training."""
        self.display.close()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins a validation, whose audits are works within it."""
        if trainer.state.fn == "validate":
            self._open(RunContext.of(trainer, pl_module))
        self.display.begin("development loss", self.total_val_batches)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Counts a batch."""
        self.display.advance()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the validation."""
        self.display.end()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leaves the terminal as it was."""
        self.display.close()

    def _losses(self, trainer: Trainer, pl_module: LightningModule) -> str:
        found = self.get_metrics(trainer, pl_module).items()
        return ", ".join(f"{name} {value:.3f}" for name, value in found if isinstance(value, float))

    def _open(self, context: RunContext) -> None:
        for what, line in opening_lines(context):
            self.display.say(what, line)


def opening_lines(context: RunContext) -> list[tuple[str, str]]:
    """Returns what runs, in four lines: model, data, template, device."""
    trainer, module, data = context.trainer, context.module, context.data
    identity = run_identity(trainer)
    network = module.language_model.model
    model = [str(identity.role), network.config.model_type]
    if not isinstance(trainer.strategy, FSDPStrategy):  # which shows a rank its own share
        millions = sum(one.numel() for one in network.parameters()) / 1e6
        model.append(f"{millions:.3g} M parameters")
    if isinstance(module, ExternalModule):
        model.append(module.source)
    if isinstance(module, StudentModule):
        model.append(f"taught by {', '.join(module.teachers.sources)}")
    source = getattr(data, "source", None) or ", ".join(getattr(data, "sources", ()))
    members = data.member_population
    sides = [f"{len(data.population(one))} {one}" for one in (members, data.opposed_to(members))]
    fitted = trainer.state.fn == "fit" and module.training_split is not None
    trained = f"; trains on {module.training_split}" if fitted else ""
    return [
        ("model", ", ".join(model)),
        ("data", f"{source}: audits {' against '.join(sides)} records{trained}"),
        ("template", f"{template_name(data.encoder.template)}; scored: {data.score}"),
        (
            "device",
            f"{trainer.strategy.root_device}, {trainer.precision}"
            + (f", {trainer.world_size} processes" if trainer.world_size > 1 else ""),
        ),
    ]


@contextmanager
def progress(trainer: Trainer, description: str, total: int) -> Iterator[Callable[[], None]]:
    """Shows a work of so many steps while the block runs.

    Args:
        trainer: Whose bar it is shown in; without a `RunProgress` nothing is.
        description: What runs, such as "membership: scoring private".
        total: Steps until the end.

    Yields:
        A function to call after every step.
    """
    bar = trainer.progress_bar_callback
    if not isinstance(bar, RunProgress):
        yield lambda: None
        return
    with bar.display.bar(description, total) as advance:
        yield advance
