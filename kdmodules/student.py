"""Distillation: a student, its frozen teachers, a KD loss and a response source."""

from typing import Any

import torch
from torch import Tensor

from datamodules.batches import InstructionBatch
from kdmodules.causal_lm import CausalLM
from kdmodules.families import require_window
from kdmodules.language_model import LanguageModelModule
from kdmodules.losses import ForwardKL, KDLoss, KDStep, Reduction
from kdmodules.network import Network, load_model, require_same_vocabulary
from kdmodules.optimization import OptimizerSettings
from kdmodules.responses import ResponseContext, ResponseSource

_RESPONSES_KEY = "responses"


class StudentModule(LanguageModelModule):
    """Distils frozen teachers into a student on the public split.

    The step's loss is ``(1 - kd_ratio) CE + kd_ratio D`` over the scored tokens of the global batch
    (techniques.md, section 3). A technique is a YAML file that sets the plug points.

    Args:
        network: The student.
        optimizer: AdamW and its schedule.
        teacher: Hub name, ``save_pretrained`` folder or checkpoint of the teacher; several form an
            ensemble whose probabilities are averaged.
        kd_loss: The objective.
        responses: Who wrote the responses that the student trains on.
        reduction: Weight of the objective beside the cross-entropy, temperature, chunk size.
        seed: Seed of scratch weights and of everything random inside a step.
    """

    training_split = "public"

    def __init__(
        self,
        network: Network,
        optimizer: OptimizerSettings,
        teacher: str | list[str],
        kd_loss: KDLoss,
        responses: ResponseSource,
        reduction: Reduction = Reduction(),  # noqa: B008
        seed: int = 0,
    ) -> None:
        super().__init__(network, optimizer, seed)
        self.teacher_sources = [teacher] if isinstance(teacher, str) else list(teacher)
        self.kd_loss = kd_loss
        self.responses = responses
        self.reduction = reduction
        # A tuple keeps the teachers out of parameters, optimiser, checkpoints and DDP.
        self.teachers: tuple[CausalLM, ...] = ()

    def configure_model(self) -> None:
        """Builds the student and loads its teachers, frozen and in evaluation mode."""
        super().configure_model()
        if self.teachers:
            return
        for source in self.teacher_sources:
            require_same_vocabulary(source, self.tokenizer)
        self.teachers = tuple(self._load_teacher(source) for source in self.teacher_sources)

    def _load_teacher(self, source: str) -> CausalLM:
        model = load_model(source).requires_grad_(False).eval()
        require_window(model, self.data.max_tokens)
        return CausalLM(model, len(self.tokenizer))

    def on_fit_start(self) -> None:
        """Moves the teachers and lets the response source do what is done once."""
        self._place_teachers()
        self.responses.prepare(self._context(micro_batch=0))

    def on_validation_start(self) -> None:
        """Moves the teachers where a validation runs without a fit."""
        self._place_teachers()

    def _place_teachers(self) -> None:
        for teacher in self.teachers:
            teacher.to(self.device)

    def _context(self, micro_batch: int) -> ResponseContext:
        return ResponseContext(
            student=self.language_model,
            teachers=self.teachers,
            encoder=self.data.encoder,
            step=self.global_step,
            total_steps=int(self.trainer.estimated_stepping_batches),
            epoch=self.current_epoch,
            micro_batch=micro_batch,
            seed=self.seed,
            rank=self.global_rank,
            world_size=self.trainer.world_size,
        )

    def training_step(self, batch: InstructionBatch, batch_idx: int) -> Tensor:
        """Returns the summed loss of the batch that the response source hands back."""
        return super().training_step(
            self.responses.replace(batch, self._context(batch_idx)), batch_idx
        )

    def loss_sums(self, batch: InstructionBatch) -> dict[str, Tensor]:
        """Returns the step's loss, cross-entropy and divergence as sums over scored tokens."""
        progress = self.global_step / int(self.trainer.estimated_stepping_batches)
        return self._sums(batch, self.kd_loss, self.reduction, progress)

    def _sums(
        self, batch: InstructionBatch, objective: KDLoss, reduction: Reduction, progress: float
    ) -> dict[str, Tensor]:
        """Runs the teachers and the student over a batch and reduces the objective."""
        teachers = self._teacher_rows(batch) if reduction.kd_ratio > 0 else ()

        def compute(lm: CausalLM) -> dict[str, Tensor]:
            sums = objective(
                KDStep(
                    student_hidden=lm.hidden(batch),
                    student_weight=lm.head_weight,
                    targets=batch.targets(),
                    teachers=teachers,
                    extras=batch.token_extras(),
                    record_index=batch.record_index(),
                    vocabulary_size=lm.vocabulary_size,
                    progress=progress,
                    reduction=reduction,
                )
            )
            tokens = batch.response_mask.sum()
            return {
                "loss": sums.total,
                "cross_entropy": sums.ce_sum,
                **dict(sums.terms),
                "tokens": tokens,
            }

        return self.language_model(compute)

    @torch.no_grad()
    def _teacher_rows(self, batch: InstructionBatch) -> tuple[tuple[Tensor, Tensor], ...]:
        return tuple(
            teacher(lambda lm: (lm.hidden(batch), lm.head_weight)) for teacher in self.teachers
        )

    def development_sums(self, batch: InstructionBatch) -> dict[str, Tensor]:
        """Adds ``teacher_kl``: forward KL from the teacher, which the student aims at, in nats."""
        sums = self._sums(batch, ForwardKL(), Reduction(), progress=1.0)
        return {
            "loss": sums["cross_entropy"],
            "teacher_kl": sums["kd"],
            "tokens": sums["tokens"],
        }

    def on_development_loss(self, loss: float) -> None:
        """Hands the development loss to the response source."""
        self.responses.on_validation_loss(loss)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the response source's state."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[_RESPONSES_KEY] = self.responses.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the response source's state."""
        super().on_load_checkpoint(checkpoint)
        self.responses.load_state_dict(checkpoint[_RESPONSES_KEY])
