"""Distillation: a student, its frozen teachers, a KD loss and a response source."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.batches import InstructionBatch
from datamodules.errors import UserError
from datamodules.instruction import InstructionDataModule
from datamodules.plain_text import PlainTextBlocks, read_plain_text
from kdmodules.causal_lm import CausalLM
from kdmodules.families import require_window
from kdmodules.language_model import LanguageModelModule
from kdmodules.losses import ForwardKL, KDLoss, KDStep, Reduction
from kdmodules.network import Network
from kdmodules.optimization import OptimizerSettings
from kdmodules.responses import ResponseContext, ResponseSource
from kdmodules.teachers import Teachers
from kdmodules.text_loss import NO_TEXT, PlainText, TextStep, check_text_options
from kdmodules.token_means import TokenSums

_RESPONSES_KEY = "responses"
_DEFAULT_REDUCTION = Reduction()


class StudentModule(LanguageModelModule):
    """Distils frozen teachers into a student on the public split.

    After every training step, ``trained_on`` is the micro-batch with the responses that it used.

    The step's loss is ``(1 - kd_ratio) CE + kd_ratio D + lm_coef CE_text``: CE and D are means over
    the scored tokens of the global batch, CE_text one over the tokens of as many blocks of plain
    text (techniques.md, section 3). A technique is a YAML file that sets the plug points.

    Args:
        network: The student.
        optimizer: AdamW and its schedule.
        teacher: Hub name, ``save_pretrained`` folder or checkpoint of the teacher; several form an
            ensemble whose probabilities are averaged.
        kd_loss: The objective.
        responses: Who wrote the responses that the student trains on.
        reduction: Weight of the objective beside the cross-entropy, temperature, chunk size.
        plain_text: Corpus of the language-modelling loss.
        lm_coef: Weight of the language-modelling loss; at 0 no corpus is read.
        text_kd_ratio: Share of forward KL from the teachers in CE_text, the rest cross-entropy.
        seed: Seed of scratch weights and of everything random inside a step.

    Raises:
        UserError: If an option of the loss on plain text is out of range or has no corpus.
    """

    training_split = "public"

    def __init__(
        self,
        network: Network,
        optimizer: OptimizerSettings,
        teacher: str | list[str],
        kd_loss: KDLoss,
        responses: ResponseSource,
        reduction: Reduction = _DEFAULT_REDUCTION,
        plain_text: PlainText | None = None,
        lm_coef: float = 0.0,
        text_kd_ratio: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(network, optimizer, seed)
        check_text_options(plain_text, lm_coef, text_kd_ratio)
        self.teachers = Teachers([teacher] if isinstance(teacher, str) else teacher)
        self.kd_loss = kd_loss
        self.responses = responses
        self.reduction = reduction
        self.plain_text = plain_text
        self.lm_coef = lm_coef
        self.text_kd_ratio = text_kd_ratio
        self.trained_on: InstructionBatch | None = None
        self._blocks: PlainTextBlocks | None = None
        self._text = NO_TEXT
        self._scored_tokens = 0

    @property
    def training_data(self) -> InstructionDataModule:
        """The data module that the student trains on.

        Raises:
            TypeError: If the trainer was given one that only audits.
        """
        if not isinstance(self.data, InstructionDataModule):
            raise TypeError(f"expected an InstructionDataModule, found {type(self.data).__name__}")
        return self.data

    def configure_model(self) -> None:
        """Builds the student and loads its teachers, frozen and in evaluation mode."""
        super().configure_model()
        self.teachers.load(self.tokenizer, self.data.max_tokens)

    def on_fit_start(self) -> None:
        """Moves the teachers, reads the plain text, and lets the response source prepare."""
        self.teachers.to(self.device)
        self._read_plain_text()
        self.responses.prepare(self._context(micro_batch=0))

    def _read_plain_text(self) -> None:
        if self.lm_coef == 0 or self.plain_text is None:
            return
        text, data = self.plain_text, self.training_data
        require_window(self.language_model.model, text.block_tokens)
        shares = self.trainer.world_size * self.trainer.accumulate_grad_batches
        if data.batch_size % shares:
            raise UserError(
                f"data.batch_size={data.batch_size} blocks of plain text cannot be dealt to "
                f"{shares} micro-batches (ranks x accumulate_grad_batches): give a multiple"
            )
        self._blocks = read_plain_text(
            text.sources,
            self.tokenizer,
            block_tokens=text.block_tokens,
            max_blocks=text.max_blocks,
            documents=text.documents,
            hub_split=text.hub_split,
            text_field=text.text_field,
            seed=self.seed,
        )

    def on_train_start(self) -> None:
        """Measures the student before its first step where the response source asks for it."""
        if self.responses.needs_initial_loss:
            self.responses.on_validation_loss(self._initial_loss())

    @torch.no_grad()
    def _initial_loss(self) -> float:
        """Returns the development loss of the student as it is, as a validation would."""
        sums = TokenSums()
        modes = {module: module.training for module in self.modules()}
        self.eval()
        with self.trainer.precision_plugin.val_step_context():
            for batch in self.data.val_dataloader():
                sums.add(self.development_sums(batch.to(self.device)))
        for module, mode in modes.items():
            module.training = mode
        return sums.means(self._sum_over_ranks)[0]["loss"]

    def on_validation_start(self) -> None:
        """Moves the teachers where a validation runs without a fit."""
        self.teachers.to(self.device)

    def _context(self, micro_batch: int) -> ResponseContext:
        data = self.training_data
        return ResponseContext(
            student=self.language_model,
            teachers=self.teachers.models,
            encoder=self.data.encoder,
            records=data.tokens(self.training_split, data.training_records(self.training_split)),
            private_folder=Path(self.trainer.default_root_dir) / "private",
            step=self.global_step,
            total_steps=int(self.trainer.estimated_stepping_batches),
            epoch=self.current_epoch,
            micro_batch=micro_batch,
            accumulate=self.trainer.accumulate_grad_batches,
            global_batch=data.batch_size,
            seed=self.seed,
            rank=self.global_rank,
            world_size=self.trainer.world_size,
        )

    def training_step(self, batch: InstructionBatch, batch_idx: int) -> Tensor:
        """Returns the summed loss of the batch that the response source hands back."""
        batch = self.responses.replace(batch, self._context(batch_idx))
        self.trained_on = batch
        self._text = self._text_step(batch, batch_idx)
        return super().training_step(batch, batch_idx)

    def _text_step(self, batch: InstructionBatch, batch_idx: int) -> TextStep:
        """Returns the text that is due with a micro-batch: all of the step's with its last."""
        if self._blocks is None:
            return NO_TEXT
        accumulate = self.trainer.accumulate_grad_batches
        self._scored_tokens += int(batch.response_mask.sum())
        if (batch_idx + 1) % accumulate:
            return TextStep((), 0.0, self.text_kd_ratio)
        own = torch.tensor(self._scored_tokens, dtype=torch.float64, device=self.device)
        self._scored_tokens = 0
        tokens = float(self._sum_over_ranks(own))
        blocks = self._blocks.blocks(self.global_step, self.training_data.batch_size)
        n_targets = blocks.numel() - len(blocks)
        mine = blocks[self.global_rank :: self.trainer.world_size].to(self.device)
        weight = max(tokens, 1.0) / n_targets
        return TextStep(mine.chunk(accumulate), weight, self.text_kd_ratio, self.teachers.rows)

    def loss_sums(self, batch: InstructionBatch) -> dict[str, Tensor]:
        """Returns the step's loss, cross-entropy and divergence as sums over scored tokens."""
        progress = self.global_step / int(self.trainer.estimated_stepping_batches)
        return self._sums(batch, self.kd_loss, self.reduction, progress, self._text)

    def _sums(
        self,
        batch: InstructionBatch,
        objective: KDLoss,
        reduction: Reduction,
        progress: float,
        text: TextStep = NO_TEXT,
    ) -> dict[str, Tensor]:
        """Runs the teachers and the student over a batch and reduces the objective."""
        teachers = self.teachers.rows(batch) if reduction.kd_ratio > 0 else ()

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
            text_sums = text.sums(lm)
            return {
                **text_sums,
                "loss": sums.total + self.lm_coef * text_sums["loss"],
                "cross_entropy": sums.ce_sum,
                **dict(sums.terms),
                "tokens": batch.response_mask.sum(),
            }

        found = self.language_model(compute)
        if self._blocks is None:
            del found["text_cross_entropy"]
        return found

    def development_sums(self, batch: InstructionBatch) -> dict[str, Tensor]:
        """Adds ``teacher_kl``: forward KL from the teacher, which the student aims at, in nats."""
        sums = self._sums(batch, ForwardKL(), Reduction(), progress=1.0)
        return {
            "loss": sums["cross_entropy"],
            "teacher_kl": sums["kd"],
            "tokens": sums["tokens"],
        }

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Normalises the gradients and logs what the response source reports."""
        super().on_before_optimizer_step(optimizer)
        for name, value in self.responses.metrics().items():
            self.log(f"responses/{name}", value, rank_zero_only=True)

    def on_step_means(self, means: Mapping[str, float]) -> None:
        """Tells the objective its mean over the global batch, which some schedules follow."""
        self.kd_loss.end_step(sum(means.get(name, 0.0) for name in self.kd_loss.terms))

    def on_development_loss(self, loss: float) -> None:
        """Hands the development loss to the response source."""
        if not self.trainer.sanity_checking:
            self.responses.on_validation_loss(loss)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the response source's state."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[_RESPONSES_KEY] = self.responses.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the response source's state."""
        super().on_load_checkpoint(checkpoint)
        self.responses.load_state_dict(checkpoint[_RESPONSES_KEY])
