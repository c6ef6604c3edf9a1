"""Throughput of a fit: tokens per second, utilisation, shares of time, peak memory."""

import resource
import sys
from typing import Any

import torch
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch import Callback, LightningModule, Trainer

from audits.rows import Audit, ResultRow
from callbacks.run import RunContext
from common.errors import UserError
from common.options import require_positive
from datamodules.batches import InstructionBatch
from kdmodules.language_model import LanguageModelModule
from kdmodules.models.flops import NOTHING, ModelCost, PassSize
from kdmodules.private_training import PrivatelyTrained
from kdmodules.student import StudentModule
from kdmodules.text_loss import TextStep

AUDIT = Audit.throughput
PARTS = ("data", "sampling", "teacher", "student", "validation")
"""What time is spent on. Validation holds the audits and the development loss."""


class Throughput(Callback):
    """Measures how fast a fit goes and what its time is spent on.

    Curves ``throughput/*`` come every some steps and hold for the steps since the last ones;
    rows of the results table hold for the whole of what this process trained, a resumed run's from
    its resume on. No row is the same in two runs, so no study of this project asks for them.

    Utilisation is that of PaLM's definition: operations that the step needs by arithmetic, of
    student and teachers, plain text included (`kdmodules.models.flops`), over what all devices
    could have done in the time of the steps. Sampling counts as time and not as work.

    Args:
        every_n_steps: Optimiser steps from one point of the curves to the next.
        peak_flops: Operations per second of one device; None takes the published figure of a known
            GPU for the run's precision, and where there is none no utilisation is given.

    Raises:
        UserError: If a number is not positive.
    """

    def __init__(self, every_n_steps: int = 10, peak_flops: float | None = None) -> None:
        if every_n_steps < 1:
            raise UserError(f"every_n_steps is {every_n_steps}: give 1 or more")
        if peak_flops is not None:
            require_positive(peak_flops=peak_flops)
        self.every_n_steps = every_n_steps
        self.peak_flops = peak_flops
        self._whole = _Tally()
        self._recent = _Tally()
        self._seconds: dict[str, float] = {}
        self._teachers: list[ModelCost] = []
        self._student: ModelCost | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock.

        Raises:
            UserError: The training is private, and how much each step drew is not to be told.
        """
        module = RunContext.of(trainer, pl_module).module
        if isinstance(module, PrivatelyTrained) and module.dp is not None:
            raise UserError(
                "Throughput tells how many records were drawn, which the guarantee of model.dp "
                "takes for secret: leave configs/trainers/throughput.yaml out"
            )
        self._student = ModelCost.of(module.language_model)
        self._whole, self._recent, self._seconds = _Tally(), _Tally(), {}
        if module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(module.device)
        module.clock.start(module.device, "data")

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Ends the wait for data."""
        RunContext.of(trainer, pl_module).module.clock.switch("student")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: InstructionBatch,
        batch_idx: int,
    ) -> None:
        """Counts the batch that was trained on, and logs where it is time."""
        module = RunContext.of(trainer, pl_module).module
        module.clock.switch("data")
        student = isinstance(module, StudentModule)
        size = PassSize.of(outputs["trained_on"] if student else batch)
        operations = self._operations(module, size, outputs["text"] if student else None)
        for tally in (self._whole, self._recent):
            tally.add(size, len(batch.record_ids), operations)
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if stepped and trainer.global_step % self.every_n_steps == 0:
            self._log(trainer, module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the training's time."""
        RunContext.of(trainer, pl_module).module.clock.switch("validation")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Goes on with the training's time."""
        RunContext.of(trainer, pl_module).module.clock.switch("data")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the rows of the whole fit."""
        context = RunContext.of(trainer, pl_module)
        figures = self._figures(context.module, self._whole, context.module.clock.seconds())
        every = context.ranks.gather([figures])
        if trainer.is_global_zero:
            rows = _over_ranks(every).items()
            context.write_results(
                AUDIT,
                [ResultRow(name="training", metric=name, value=value) for name, value in rows],
            )

    def _operations(
        self, module: LanguageModelModule, size: PassSize, text: TextStep | None = None
    ) -> float:
        assert self._student is not None
        needed = self._student.training(size)
        if not isinstance(module, StudentModule):
            return needed
        if not self._teachers:
            self._teachers = [ModelCost.of(one) for one in module.teachers.models]
        taught = size if module.reduction.kd_ratio > 0 else NOTHING
        if text is not None:
            for part in text.parts:
                blocks = PassSize.of(part)
                needed += self._student.training(blocks)
                taught += blocks if text.kd_ratio > 0 else NOTHING
        return needed + sum(one.forward(taught) for one in self._teachers)

    def _log(self, trainer: Trainer, module: LanguageModelModule) -> None:
        seconds = module.clock.seconds()
        since = {name: value - self._seconds.get(name, 0.0) for name, value in seconds.items()}
        figures = _over_ranks(
            RunContext.of(trainer, module).ranks.gather(
                [self._figures(module, self._recent, since)]
            )
        )
        self._seconds, self._recent = seconds, _Tally()
        for logger in trainer.loggers:
            curves = {f"throughput/{name}": value for name, value in figures.items()}
            logger.log_metrics(curves, trainer.global_step)

    def _figures(
        self, module: LanguageModelModule, tally: "_Tally", seconds: dict[str, float]
    ) -> dict[str, float]:
        """Returns this rank's figures; rates are over the time of steps, shares over all time."""
        total = sum(seconds.values())
        stepping = total - seconds.get("validation", 0.0)
        found = {f"share_{part}": seconds.get(part, 0.0) / total for part in PARTS}
        found["scored_tokens_per_second"] = tally.size.scored / stepping
        found["tokens_per_second"] = tally.size.tokens / stepping
        found["records_per_second"] = tally.records / stepping
        found["peak_memory_mb"] = peak_memory(module.device) / 2**20
        peak = self._peak(module)
        if peak is not None:
            found["model_flop_utilisation"] = tally.operations / stepping / peak
        return found

    def _peak(self, module: LanguageModelModule) -> float | None:
        if self.peak_flops is not None or module.device.type != "cuda":
            return self.peak_flops
        half = "bf16" in str(module.trainer.precision)
        known = get_available_flops(module.device, torch.bfloat16 if half else torch.float32)
        return None if known is None else float(known)


class _Tally:
    """Sums over micro-batches of this rank."""

    def __init__(self) -> None:
        self.size = NOTHING
        self.records = 0
        self.operations = 0.0

    def add(self, size: PassSize, records: int, operations: float) -> None:
        self.size += size
        self.records += records
        self.operations += operations


def peak_memory(device: torch.device) -> int:
    """Returns the most bytes that were held: of a GPU's tensors, else resident in this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _over_ranks(every: list[dict[str, float]]) -> dict[str, float]:
    """Returns rates in sum, the highest peak, and shares and utilisation on average."""
    found = {}
    for name in every[0]:
        values = [one[name] for one in every]
        if name.endswith("_per_second"):
            found[name] = sum(values)
        elif name == "peak_memory_mb":
            found[name] = max(values)
        else:
            found[name] = sum(values) / len(values)
    return found
