"""Supervised training whose steps are noisy sums of clipped gradients: DP-AdamW."""

import json
import math
import os
from collections import defaultdict
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor, nn

from common.atomic_file import make_private
from common.errors import UserError
from common.secret_randomness import (
    fresh_secret,
    published_secret,
    read_secret,
    secret_key,
    write_secret,
)
from datamodules.batches import FILLER_ID, InstructionBatch
from datamodules.instruction import InstructionDataModule
from datamodules.poisson import PoissonSampling
from datamodules.privacy_units import PrivacyUnits, privacy_units
from kdmodules.language_model import LanguageModelModule
from kdmodules.models.network import Network
from kdmodules.optimization import OptimizerSettings
from kdmodules.privacy.clipping import ClippedSum, add_noise
from kdmodules.privacy.settings import PrivateConstants, PrivateTraining, solved_noise
from kdmodules.private_refusals import refuse_private_training
from kdmodules.unit_gradients import unit_gradient

SECRET_NAME = "dp.key"
STEPS_NAME = "dp_steps.jsonl"
_CHECKPOINT_KEY = "dp"


class PrivatelyTrained(LanguageModelModule):
    """A supervised module whose training may be differentially private.

    Args:
        network: The model that is trained.
        optimizer: AdamW and its schedule.
        seed: Seed of scratch weights and of everything random inside a step.
        dp: Trains by noisy sums; None trains as all others do.
    """

    def __init__(
        self,
        network: Network,
        optimizer: OptimizerSettings,
        seed: int = 0,
        dp: PrivateTraining | None = None,
    ) -> None:
        super().__init__(network, optimizer, seed)
        self.dp = dp
        self._poisson: PoissonSampling | None = None
        self._expected_draw = 0
        self.units: PrivacyUnits | None = None
        self.constants: PrivateConstants | None = None
        self._sum: ClippedSum | None = None
        self._restored: dict[str, Any] | None = None

    def setup(self, stage: str) -> None:
        """Refuses what cannot be trained privately, and counts the units."""
        super().setup(stage)
        if self.dp is None or stage != "fit":
            return
        data, split = self.data, self.training_split
        if not isinstance(data, InstructionDataModule) or split is None:
            raise TypeError("only a run on an InstructionDataModule is trained privately")
        if self.constants is not None and self.trainer.ckpt_path is None:
            raise UserError(
                "this module was trained privately before, and the guarantee of another fit would "
                "not count those steps: build it anew, or resume with ckpt_path"
            )
        starts = self.network.source, self.network.adapter_base
        refuse_private_training(self.trainer, split, *starts)
        if data.deduplicate is not None and (
            data.deduplicate < data.splits.near_duplicate_threshold
        ):
            raise UserError(
                f"data.deduplicate is {data.deduplicate}, below "
                f"data.splits.near_duplicate_threshold ({data.splits.near_duplicate_threshold}): "
                "one unit would decide whether another is trained on, so raise it"
            )
        if data.deduplicate is not None and data.canaries:
            raise UserError(
                f"data.deduplicate is {data.deduplicate}, and canaries of one form may repeat each "
                "other: one would decide whether another is trained on, so set it, or "
                "data.canaries, to null"
            )
        self.units = privacy_units(data, split)
        self._poisson, self._expected_draw = None, data.batch_size
        if data.batch_size > self.expected_units:
            raise UserError(
                f"data.batch_size is {data.batch_size}, but a side has {self.expected_units:g} "
                "units: a step draws batch_size of them on average, so lower it"
            )

    @property
    def poisson(self) -> PoissonSampling | None:
        """What decides the batches of a private training, from `setup` on; work for all ranks.

        Asked for when the trainer knows whether the run is resumed: a new one has a fresh secret.
        """
        if self._poisson is None and self.dp is not None and self.units is not None:
            units, drawn = self.expected_units, self._expected_draw
            self._poisson = PoissonSampling(
                self.units.unit_of,
                rate=drawn / units,
                steps=math.ceil(units / drawn),
                secret=self._secret(self.dp),
            )
        return self._poisson

    @property
    def expected_units(self) -> float:
        """Units that the side is taken to have."""
        if self.dp is None or self.units is None:
            raise RuntimeError("the units of a private training are known from setup() on")
        return self.units.expected if self.dp.units is None else self.dp.units

    @property
    def planned_steps(self) -> int:
        """Optimiser steps of the whole run, of which no more are taken."""
        return int(self.trainer.estimated_stepping_batches)

    def _secret(self, dp: PrivateTraining) -> bytes:
        """Returns the run's secret, the same on all ranks."""
        if dp.seed is not None:
            return published_secret(dp.seed)
        path = self._private_folder / SECRET_NAME
        secret = b""
        if self.trainer.is_global_zero:
            if self.trainer.ckpt_path is None:
                write_secret(path, fresh_secret())
            secret = read_secret(path)
        return self.trainer.strategy.broadcast(secret)

    @property
    def _private_folder(self) -> Path:
        return Path(self.trainer.default_root_dir) / "private"

    def on_fit_start(self) -> None:
        """Solves for the noise, and compares it with that of a checkpoint.

        Raises:
            UserError: The run has no end that is known, or would go on with another mechanism.
        """
        super().on_fit_start()
        if self.dp is None or self.poisson is None:
            return
        if math.isinf(self.trainer.estimated_stepping_batches):
            raise UserError(
                "model.dp: the noise depends on the number of steps: give trainer.max_epochs or "
                "trainer.max_steps"
            )
        rate = self.poisson.rate
        noise = solved_noise(self.dp, self.expected_units, rate, self.planned_steps)
        self.constants = PrivateConstants(rate, noise, self.dp.clip, self.dp.clipping)
        now = asdict(self.constants)
        for name, was in (self._restored or now).items():
            if now[name] != was:
                raise UserError(
                    f"the checkpoint's training had the {name} {was}, this run's would be "
                    f"{now[name]}: resume with the options and the length that it was started with"
                )

    @cached_property
    def _trained(self) -> list[nn.Parameter]:
        return [weight for weight in self.parameters() if weight.requires_grad]

    def training_step(self, batch: InstructionBatch, batch_idx: int) -> STEP_OUTPUT:
        """Sums the clipped gradients of a draw's units, or goes on as every training does."""
        if self.poisson is None or self.constants is None:
            return super().training_step(batch, batch_idx)
        batch = self.with_targets(batch)
        units: defaultdict[str, list[int]] = defaultdict(list)
        for row, record_id in enumerate(batch.record_ids):
            if record_id != FILLER_ID:
                units[self.poisson.unit_of[record_id]].append(row)
        found = ClippedSum(self._trained, self.constants.clip, self.constants.clipping)
        loss = torch.zeros((), device=self.device)
        for unit, rows in units.items():
            # Dropout of a unit does not depend on which others were drawn.
            torch.manual_seed(secret_key(self.poisson.secret, "step", self.global_step, unit))
            gradients, value = unit_gradient(
                self.language_model, batch, rows, self._trained, self.dropout_in_steps
            )
            found.add(gradients)
            loss += value
        self._sum = found
        self._keep_figures(found, loss)
        # What is returned is shown: the losses of private records are not.
        return torch.zeros((), device=self.device)

    def with_targets(self, batch: InstructionBatch) -> InstructionBatch:
        """Returns a batch with those tokens scored that are trained on."""
        return batch

    def _keep_figures(self, found: ClippedSum, loss: Tensor) -> None:
        """Writes what tells of private records where only the owner reads it.

        Raises:
            FloatingPointError: A gradient is not finite.
        """
        norms = found.norms
        if not bool(torch.isfinite(norms).all()):
            raise FloatingPointError(
                f"a gradient of optimiser step {self.global_step} is not finite: lower "
                "model.optimizer.lr or train in higher precision"
            )
        mine = torch.stack([loss.new_tensor(len(norms)), (norms > found.clip).sum(), loss])
        drawn, clipped, total = self._sum_over_ranks(mine.double()).tolist()
        if self.trainer.is_global_zero:
            line = {
                "step": self.global_step,
                "units": int(drawn),
                "clipped": int(clipped),
                "loss": total / max(drawn, 1.0),
            }
            path = make_private(self._private_folder) / STEPS_NAME
            with open(path, "a", encoding="utf-8", opener=_owners_alone) as file:
                file.write(f"{json.dumps(line)}\n")

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Adds the ranks' sums, then noise once, and makes the gradients of it."""
        if self._sum is None or self.constants is None or self.poisson is None:
            super().backward(loss, *args, **kwargs)
            return
        found, constants = self._sum, self.constants
        if self.trainer.world_size > 1:
            found.flat.copy_(self._sum_over_ranks(found.flat.clone()))
        deviation = constants.noise * constants.clip
        add_noise(found.flat, deviation, self.poisson.secret, self.global_step)
        found.write_gradients(self._expected_draw)
        self._sum = None

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Leaves the gradients of a private step as they are; logs nothing of it."""
        if self.constants is None:
            super().on_before_optimizer_step(optimizer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the mechanism's constants."""
        super().on_save_checkpoint(checkpoint)
        if self.constants is not None:
            checkpoint[_CHECKPOINT_KEY] = asdict(self.constants)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the mechanism's constants, to compare them.

        Raises:
            UserError: A private training would go on from one that was not, or the other way.
        """
        super().on_load_checkpoint(checkpoint)
        self._restored = checkpoint.get(_CHECKPOINT_KEY)
        fitting = self.trainer.state.fn == TrainerFn.FITTING
        if fitting and (self._restored is None) != (self.dp is None):
            before, now = ("with", "without") if self._restored else ("without", "with")
            raise UserError(
                f"the checkpoint was trained {before} model.dp and this run goes on {now} it: "
                "begin anew without --ckpt_path"
            )


def _owners_alone(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
