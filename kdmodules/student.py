"""Distillation: a student, its frozen teachers, a KD loss and a response source."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from common.errors import UserError
from datamodules.batches import InstructionBatch
from datamodules.instruction import InstructionDataModule
from kdmodules.language_model import LanguageModelModule
from kdmodules.losses import ForwardKL, KDLoss, Reduction
from kdmodules.models.anatomy import require_window
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.modes import evaluation_mode
from kdmodules.models.network import Network
from kdmodules.optimization import OptimizerSettings
from kdmodules.private_refusals import refuse_choice_by_teachers
from kdmodules.query_filter import QueryFilter, without_records
from kdmodules.responses import ResponseContext, ResponseSource, require_text_alone
from kdmodules.teacher_cache import CachedTeachers, CacheJob, TeacherCache, check_cache_options
from kdmodules.teacher_output import CoarseTeacher, TeacherOutput, check_teacher_output
from kdmodules.teachers import Teachers, TeacherWeights
from kdmodules.text_loss import PlainText, TextStep, TextSteps, check_text_options
from kdmodules.token_means import TokenSums, scored_tokens

_RESPONSES_KEY = "responses"
_LEFT_OUT_KEY = "left_out"
_DEFAULT_REDUCTION = Reduction()
_DEFAULT_TEACHER_WEIGHTS = TeacherWeights()


class StudentModule(LanguageModelModule):
    """Distils frozen teachers into a student on the public split.

    What a training step returns tells callbacks what it trained on: ``trained_on``, the micro-batch
    with the responses that it was used with, and ``text``, the plain text that was due with it.

    The step's loss is ``(1 - kd_ratio) CE + kd_ratio D + lm_coef CE_text``: CE and D are means over
    the scored tokens of the global batch, or over its responses (`Reduction.normalisation`),
    CE_text one over the tokens of as many blocks of plain text.

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
        teacher_cache: Keeps the teachers' part on disk; None asks them at every step.
        teacher_weights: The teachers' precision, and whether they are sharded or offloaded.
        teacher_output: Coarsens what the objective reads of the teachers.
        query_filter: Leaves records out that the teachers stand out on.

    Raises:
        UserError: If an option of the loss on plain text is out of range or has no corpus, or the
            run cannot be taught from the cache that it is to have, or reads its teachers past a
            coarsened output.
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
        teacher_cache: TeacherCache | None = None,
        teacher_weights: TeacherWeights = _DEFAULT_TEACHER_WEIGHTS,
        teacher_output: TeacherOutput | None = None,
        query_filter: QueryFilter | None = None,
    ) -> None:
        super().__init__(network, optimizer, seed)
        check_text_options(plain_text, lm_coef, text_kd_ratio)
        sources = [teacher] if isinstance(teacher, str) else teacher
        check_cache_options(teacher_cache, responses, kd_loss, reduction, sources)
        check_teacher_output(teacher_output, responses, reduction, text_kd_ratio)
        if responses.text_alone:
            reads_rows = {
                "model.reduction.kd_ratio": reduction.kd_ratio > 0,
                "model.text_kd_ratio": lm_coef * text_kd_ratio > 0,
                "model.query_filter": query_filter is not None,
            }
            require_text_alone(reads_rows)
        self.teachers = Teachers(sources, teacher_weights)
        self.kd_loss = kd_loss
        self.responses = responses
        self.reduction = reduction
        self.plain_text = plain_text
        self.lm_coef = lm_coef
        self.text_kd_ratio = text_kd_ratio
        self.teacher_cache = teacher_cache
        self.teacher_output = teacher_output
        self.query_filter = query_filter
        self._left_out: frozenset[str] = frozenset()
        self._cached: CachedTeachers | None = None
        self._text_steps: TextSteps | None = None

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
        """Builds the student and loads its teachers, unless a fit can go without them."""
        super().configure_model()
        if self._asks_teachers or self.trainer.state.fn != TrainerFn.FITTING:
            self._load_teachers()

    @property
    def dropout_in_steps(self) -> bool:
        """Whether steps run with dropout, as the response source has it."""
        return not self.responses.steps_in_evaluation_mode

    @property
    def _asks_teachers(self) -> bool:
        """Whether steps of a fit need the teachers themselves."""
        return self.teacher_cache is None or (self.lm_coef > 0 and self.text_kd_ratio > 0)

    def _load_teachers(self) -> None:
        if not self.teachers.sources and self.reduction.kd_ratio > 0:
            raise UserError("model.teacher names no teacher: give a hub name, a folder or a list")
        root = self.trainer.strategy.root_device
        self.teachers.load(self.tokenizer, self.data.max_tokens, self.device_mesh, root)
        self.teachers.to(self.device)
        self.teachers.share_tokens(self.language_model, self.data.encoder)

    @contextmanager
    def loaded_teachers(self) -> Iterator[Sequence[CausalLM]]:
        """The teachers on the student's device, for the time being where a cache serves for them.

        Work for all ranks at once.
        """
        self._load_teachers()
        yield self.teachers.models
        if self._cached is not None and not self._asks_teachers:
            self.teachers.release()

    def on_fit_start(self) -> None:
        """Moves the teachers, reads the plain text, and lets the response source prepare."""
        if self.responses.text_alone:
            refuse_choice_by_teachers(self.trainer)
        self._read_plain_text()
        filtered = self.query_filter is not None
        if self._asks_teachers or self.responses.prepares_with_teachers or filtered:
            self._load_teachers()
        if not self._left_out:
            self._choose_queries()
        self.responses.prepare(self._context(micro_batch=0))
        if self.teacher_cache is not None:
            self._cached = self._cache_job(self.teacher_cache).open()
        if not self._asks_teachers:
            self.teachers.release()

    def _choose_queries(self) -> None:
        """Leaves out what the filter asks for; a resumed run keeps to what it began with."""
        if self.query_filter is None:
            return
        context = self._context(micro_batch=0)
        context.require_teacher()
        served = (context.records, context.teachers, context.student, context.encoder)
        # Ranks agree to the bit.
        (self._left_out, *_) = context.gather([self.query_filter.left_out(*served)])

    def _cache_job(self, cache: TeacherCache) -> CacheJob:
        context = self._context(micro_batch=0)
        development = self.data.tokens("development", self.data.development_records())
        asked = self.responses if self.reduction.kd_ratio > 0 else None
        return CacheJob(cache, self.teachers, self._load_teachers, development, asked, context)

    def _read_plain_text(self) -> None:
        if self.lm_coef == 0 or self.plain_text is None:
            return
        require_window(self.language_model.model, self.plain_text.block_tokens)
        blocks = self.plain_text.read(self.tokenizer, self.seed)
        by_sequence = self.reduction.by_sequence
        self._text_steps = TextSteps(blocks, by_sequence, self.text_kd_ratio, self.teachers.rows)

    def on_train_start(self) -> None:
        """Measures the student before its first step where the response source asks for it."""
        if self.responses.needs_initial_loss:
            self.responses.on_validation_loss(self._initial_loss())

    @torch.no_grad()
    def _initial_loss(self) -> float:
        """Returns the development loss of the student as it is, as a validation would."""
        sums = TokenSums()
        with evaluation_mode(self), self.trainer.precision_plugin.val_step_context():
            for batch in self.data.val_dataloader():
                sums.add(self.development_sums(batch.to(self.device)))
        return sums.means(self._sum_over_ranks)[0]["loss"]

    def on_validation_start(self) -> None:
        """Moves the teachers where a validation runs without a fit."""
        self.teachers.to(self.device)

    def _context(self, micro_batch: int) -> ResponseContext:
        data = self.training_data
        records = data.tokens(self.training_split, data.training_records(self.training_split))
        if self._left_out:
            records = [one for one in records if one.record_id not in self._left_out]
        return ResponseContext(
            student=self.language_model,
            teachers=self.teachers.models,
            encoder=self.data.encoder,
            records=records,
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
            teacher_sources=self.teachers.sources,
            student_source=self.network.source,
        )

    def training_step(self, batch: InstructionBatch, batch_idx: int) -> STEP_OUTPUT:
        """Returns the summed loss of the batch that the response source hands back."""
        context = self._context(batch_idx)
        if self._left_out:
            batch = without_records(batch, self._left_out)
        with self.clock.part("sampling", of="student"):
            batch = self.responses.replace(batch, context)
        steps = self._text_steps
        text = None if steps is None else steps.due(batch, context, self._sum_over_ranks)
        loss = self.step_loss(batch, partial(self.loss_sums, text=text))
        return {"loss": loss, "trained_on": batch, "text": text}

    def loss_sums(self, batch: InstructionBatch, text: TextStep | None = None) -> dict[str, Tensor]:
        """Returns the step's loss, cross-entropy and divergence as sums over scored tokens.

        Args:
            batch: Records with the responses that are trained on.
            text: Plain text that is due with them.
        """
        progress = self.global_step / int(self.trainer.estimated_stepping_batches)
        objective, output = self.kd_loss, self.teacher_output
        if output is not None:
            batch = output.with_contexts(batch)
            objective = CoarseTeacher(objective, output, self.reduction.temperature)
        return self._sums(batch, objective, self.reduction, progress, text)

    def _sums(
        self,
        batch: InstructionBatch,
        objective: KDLoss,
        reduction: Reduction,
        progress: float,
        text: TextStep | None = None,
    ) -> dict[str, Tensor]:
        """Runs the teachers and the student over a batch and reduces the objective."""
        taught_by = self._cached or self.teachers
        with self.clock.part("teacher", of="student"):
            teachers = taught_by.rows(batch) if reduction.kd_ratio > 0 else ()

        def compute(lm: CausalLM) -> dict[str, Tensor]:
            losses = objective(scored_tokens(lm, batch, teachers, reduction, progress))
            sums = {
                "loss": losses.total,
                "cross_entropy": losses.ce_sum,
                **losses.terms,
                "tokens": batch.response_mask.sum(),
            }
            if reduction.by_sequence:
                sums["sequences"] = batch.scored_rows().sum()
            if text is not None:
                text_sums = text.sums(lm)
                loss = sums["loss"] + self.lm_coef * text_sums["loss"]
                sums |= {**text_sums, "loss": loss}
            return sums

        return self.language_model(compute)

    def development_sums(self, batch: InstructionBatch) -> dict[str, Tensor]:
        """Adds ``teacher_kl``: forward KL from the teacher, which the student aims at, in nats."""
        sums = self._sums(batch, ForwardKL(), Reduction(), progress=1.0)
        return {"loss": sums["cross_entropy"], "teacher_kl": sums["kd"], "tokens": sums["tokens"]}

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
        if self._left_out:
            checkpoint[_LEFT_OUT_KEY] = sorted(self._left_out)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the response source's state."""
        super().on_load_checkpoint(checkpoint)
        self.responses.load_state_dict(checkpoint[_RESPONSES_KEY])
        self._left_out = frozenset(checkpoint.get(_LEFT_OUT_KEY, ()))
