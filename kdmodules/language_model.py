"""What every trained or audited model shares: network, optimiser, token means, development loss."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRSchedulerConfig
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from common.keys import key
from datamodules.batches import InstructionBatch
from datamodules.record_module import RecordDataModule
from kdmodules.models.anatomy import require_window
from kdmodules.models.blueprint import Blueprint, Placement, network_blueprint, realise
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.checkpoints import METADATA_KEY, checkpoint_metadata, require_checkpoint_fits
from kdmodules.models.network import Network
from kdmodules.models.training_blocks import prepare_blocks
from kdmodules.optimization import (
    OptimizerSettings,
    build_optimizer,
    build_schedule,
    keyed_by_model,
)
from kdmodules.phase_clock import PhaseClock
from kdmodules.strategies import (
    clip_fsdp_gradients,
    keeps_gradients,
    require_supported,
    saves_its_own_way,
)
from kdmodules.token_means import TokenSums, naming_records, supervised_sums

LossOfBatch = Callable[[InstructionBatch], dict[str, Tensor]]
"""From a micro-batch, its sums by name."""


class LanguageModelModule(LightningModule):
    """A causal language model under Lightning.

    Losses are sums over scored tokens until the optimiser steps: Lightning shows one micro-batch
    at a time, so a mean over each would weigh tokens by the batch that they happen to be in.
    Gradients are divided once, by the number of scored tokens of the global batch (all ranks, all
    accumulation steps).

    Args:
        network: The model that is trained.
        optimizer: AdamW and its schedule.
        seed: Seed of scratch weights and of everything random inside a step.
    """

    training_split: str | None = None
    """The split that is served for training: private, held_out or public; None trains on none."""

    def __init__(self, network: Network, optimizer: OptimizerSettings, seed: int = 0) -> None:
        super().__init__()
        self.network = network
        self.optimizer = optimizer
        self.seed = seed
        self.lm: CausalLM | None = None
        self.trained_steps = 0
        self.clock = PhaseClock()
        self._step_sums = TokenSums()
        self._development_sums = TokenSums()
        self._development_means: dict[str, float] = {}

    @property
    def dropout_in_steps(self) -> bool:
        """Whether training steps run with the network's dropout."""
        return True

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the run's data."""
        return self.data.tokenizer

    @property
    def data(self) -> RecordDataModule:
        """The data module that the trainer was given.

        Raises:
            TypeError: If it is not one of this project.
        """
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, RecordDataModule):
            raise TypeError(f"expected a RecordDataModule, found {type(data).__name__}")
        return data

    @property
    def language_model(self) -> CausalLM:
        """The model, once :meth:`configure_model` has built it."""
        if self.lm is None:
            raise RuntimeError("the model is built in configure_model, which has not run yet")
        return self.lm

    def configure_model(self) -> None:
        """Builds the network, sharded where the strategy shards."""
        if self.lm is not None:
            return
        require_supported(self.trainer)
        self.lm = self.built(
            network_blueprint(self.network, self.tokenizer, key(self.seed, "weights"))
        )
        if self.trainer.state.fn == TrainerFn.FITTING:
            self.lm.require_parts("training")
        prepare_blocks(self.lm, self.network.activation_checkpointing, self.network.compiled)

    def built(self, blueprint: Blueprint) -> CausalLM:
        """Builds the model that is trained or audited, sharded where the strategy shards.

        Raises:
            UserError: If it cannot be had, or its window is too short for the records.
        """
        lm = realise(blueprint, len(self.tokenizer), Placement(self.device_mesh))
        require_window(lm.model, self.data.max_tokens)
        self.data.encoder.limit_rows(lm.vocabulary_size)
        return lm

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Returns AdamW and its schedule, stepped once per optimiser step."""
        # On CPUs, PyTorch's own choice is eight times slower. Under mixed precision Lightning does
        # not clip the gradients of a fused optimiser.
        whole = self.trainer.precision == "32-true" and self.device_mesh is None
        fused = True if whole and self.device.type == "cpu" else None
        optimizer = build_optimizer(self, self.optimizer, fused)
        total_steps = int(self.trainer.estimated_stepping_batches)
        schedule = build_schedule(optimizer, self.optimizer, total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_batch_start(self, batch: InstructionBatch, batch_idx: int) -> None:
        """Keys dropout and other noise of the step, so that a resumed run repeats it."""
        parts = (self.seed, "step", self.current_epoch, batch_idx, self.global_rank)
        torch.manual_seed(key(*parts))

    def training_step(self, batch: InstructionBatch, batch_idx: int) -> STEP_OUTPUT:
        """Returns the summed loss of a micro-batch; see :meth:`on_before_optimizer_step`."""
        return self.step_loss(batch, self.loss_sums)

    def step_loss(self, batch: InstructionBatch, loss_sums: LossOfBatch) -> Tensor:
        """Returns the loss of a micro-batch for the backward pass, and counts its sums.

        Args:
            batch: As it is trained on.
            loss_sums: Computes its sums, as :meth:`loss_sums` does.
        """
        with naming_records(batch), self.language_model.in_step(self.dropout_in_steps):
            sums = loss_sums(batch)
        self._step_sums.add(sums)
        if not keeps_gradients(self.trainer):
            return sums["loss"]
        counted = sums.get("sequences", sums["tokens"])
        divisor = float(self._sum_over_ranks(counted.double()))
        return sums["loss"] * (self.trainer.world_size / max(divisor, 1.0))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Turns the accumulated gradient of sums into the gradient of the global mean.

        Lightning has divided every micro-batch by the accumulation steps and the strategy has
        averaged over ranks; both are undone here.

        Raises:
            FloatingPointError: If the loss is not finite.
        """
        means, divisor, tokens = self._step_sums.means(self._sum_over_ranks)
        if not math.isfinite(means["loss"]):
            raise FloatingPointError(
                f"the training loss of optimiser step {self.global_step} is {means['loss']}: lower "
                f"model.optimizer.lr or train in higher precision"
            )
        if not keeps_gradients(self.trainer):
            scale = self.trainer.world_size * self.trainer.accumulate_grad_batches
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad.mul_(scale / max(divisor, 1.0))
        for name, mean in means.items():
            self.log(f"train/{name}", mean, prog_bar=name == "loss", rank_zero_only=True)
        self.log("train/scored_tokens", tokens, rank_zero_only=True)
        self.on_step_means(means)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips by norm under every strategy."""
        if not clip_fsdp_gradients(self.trainer, gradient_clip_val):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_step_means(self, means: Mapping[str, float]) -> None:
        """Receives the means of every optimiser step, the same on all ranks."""

    def _sum_over_ranks(self, values: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(values, reduce_op="sum")

    @abstractmethod
    def loss_sums(self, batch: InstructionBatch) -> dict[str, Tensor]:
        """Returns sums over the scored tokens of a training micro-batch.

        Returns:
            ``loss`` (scalar with gradient, nats), ``tokens`` (scored tokens), ``sequences`` where
            the others are sums over responses, and any further sum that is to be logged as a mean
            under its own name.
        """

    def development_sums(self, batch: InstructionBatch) -> dict[str, Tensor]:
        """Returns sums over the scored tokens of a batch of development records.

        Returns:
            ``loss`` (cross-entropy, nats), ``tokens``, and what a subclass adds.
        """
        return self.language_model(partial(supervised_sums, batch=batch))

    def validation_step(self, batch: InstructionBatch, batch_idx: int) -> None:
        """Adds a batch of development records to the development loss."""
        with naming_records(batch):
            self._development_sums.add(self.development_sums(batch))

    def development_loss(self) -> float:
        """Returns the development loss of the validation that ends, token-mean cross-entropy in
        nats; work for all ranks at once.
        """
        if len(self._development_sums):
            self._development_means, *_ = self._development_sums.means(self._sum_over_ranks)
        return self._development_means["loss"]

    def on_validation_epoch_end(self) -> None:
        """Logs the development loss: token-mean cross-entropy in nats."""
        loss, means = self.development_loss(), self._development_means
        for name, mean in means.items():
            # Equal on all ranks, any of which may stop early or choose a checkpoint by it.
            self.log(f"val/{name}", mean, prog_bar=name == "loss", sync_dist=True)
        self.on_development_loss(loss)

    def on_development_loss(self, loss: float) -> None:
        """Receives the development loss of every validation, the same on all ranks."""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remembers the step of the weights, which Lightning does not restore for a validation.

        Raises:
            UserError: If the checkpoint is of another network.
        """
        metadata = checkpoint_metadata(self.language_model.model, self.tokenizer)
        require_checkpoint_fits(checkpoint, self.state_dict, metadata)
        self.trained_steps = int(checkpoint["global_step"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what is needed to rebuild the network, and to resume under any strategy."""
        checkpoint[METADATA_KEY] = checkpoint_metadata(self.language_model.model, self.tokenizer)
        if "optimizer_states" in checkpoint and not saves_its_own_way(self.trainer.strategy):
            pairs = zip(checkpoint["optimizer_states"], self.trainer.optimizers, strict=True)
            checkpoint["optimizer_states"] = [keyed_by_model(*pair, self) for pair in pairs]
