"""The shell of every audit: when it runs, on which records, over which ranks, and where rows go."""

import sys
import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from audits.answer.console import console_lines
from audits.answer.machine import FILE_NAME
from audits.answer.one_run import run_answer
from audits.context import AuditContext, Measurements, SharedWork, require_sizes
from audits.results import merge_parts, write_part
from audits.scoring.model_access import ModelAccess
from audits.scoring.shift_test import ShiftTest
from callbacks.answer import write_answer
from callbacks.guarantee import audited_guarantee
from callbacks.progress import progress
from callbacks.run import RunContext, private_folder, reference_models, run_folder
from callbacks.schedule import audit_rhythm, check_rhythm, is_last_validation
from callbacks.tensorboard import tag_in


class AuditCallback(Callback, ABC):
    """Runs an audit with every validation, so that every audited checkpoint has its development
    loss.

    Args:
        every_n_validations: Audits every n-th validation of a fit and the last one; 0, only that;
            None, as the run's other audits (``audits.every_n_validations``).
        max_records: Most records of a population; the first ones in the data module's order.
        batch_size: Most records in a batch.
        max_batch_tokens: Most tokens in a batch with its padding.

    Attributes:
        audit: The audit's name in every table.
    """

    audit: ClassVar[str]

    def __init__(
        self,
        every_n_validations: int | None = None,
        max_records: int | None = None,
        batch_size: int = 64,
        max_batch_tokens: int = 8192,
    ) -> None:
        if every_n_validations is not None:
            check_rhythm("every_n_validations", every_n_validations)
        require_sizes(max_records, batch_size, max_batch_tokens)
        self.every_n_validations = every_n_validations
        self.max_records = max_records
        self.batch_size = batch_size
        self.max_batch_tokens = max_batch_tokens
        self._validations = 0

    @property
    def pool_uses(self) -> frozenset[str]:
        """Uses of pool records that this audit reads beside those that it judges."""
        return frozenset()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keeps what this audit reads from what all audits of the run judge."""
        RunContext.of(trainer, pl_module).data.reserve(self.pool_uses)

    def check(self, context: RunContext) -> None:
        """Refuses, before any forward pass, what could not be measured on the run's records.

        Raises:
            UserError: Naming what is missing.
        """
        del context

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checks before anything is trained."""
        self.check(RunContext.of(trainer, pl_module))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checks a validation that stands alone before its first pass."""
        if trainer.state.fn == "validate":
            self.check(RunContext.of(trainer, pl_module))

    @abstractmethod
    def measure(self, context: RunContext) -> Measurements:
        """Audits the current weights; runs on every rank and returns the same on each."""

    def state_dict(self) -> dict[str, int]:
        """Returns how many validations have been seen, so that a resumed run keeps its rhythm."""
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Restores the number of validations."""
        self._validations = state_dict["validations"]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Audits the checkpoint that was just validated."""
        if trainer.sanity_checking:
            return
        self._validations += 1
        if not self._is_due(trainer):
            return
        context = RunContext.of(trainer, pl_module)
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            found = self.measure(context)
        if trainer.is_global_zero:
            self._write(context, found)
            self._log(context, found)
        trainer.strategy.barrier(f"audit {self.audit}")

    def _is_due(self, trainer: Trainer) -> bool:
        own = self.every_n_validations
        every = audit_rhythm(trainer) if own is None else own
        return (every > 0 and self._validations % every == 0) or is_last_validation(trainer)

    def audit_context(self, context: RunContext) -> AuditContext:
        """Returns what the audit itself works on: the model and the records, without the run."""
        module, trainer = context.module, context.trainer
        references = reference_models(trainer)
        model = ModelAccess(
            module.language_model,
            context.data.encoder,
            context.ranks,
            self.batch_size,
            self.max_batch_tokens,
            module.seed,
            lambda title, total: progress(trainer, title, total),
        )
        return AuditContext(
            model,
            context.data,
            load_reference=lambda name: references.load(name, module),
            reference_tokenizer=lambda name: references.tokenizer(name, module),
            pool_records=context.pool_of_world(),
            shared=_SHARED_WORK.setdefault(trainer, SharedWork()),
            max_records=self.max_records,
            folder=private_folder(trainer),
            step=context.step,
            tell=_tell,
            guarantee=audited_guarantee(context),
        )

    def _write(self, context: RunContext, found: Measurements) -> None:
        for table, rows in found.tables(context.identity, self.audit).items():
            write_part(run_folder(context.trainer), table, context.step, self.audit, rows)

    @staticmethod
    def _log(context: RunContext, found: Measurements) -> None:
        for logger in context.trainer.loggers:
            logger.log_metrics(found.curves, context.step)
            if isinstance(logger, TensorBoardLogger):
                for tag, figure in found.figures.items():
                    logger.experiment.add_figure(tag_in(logger, tag), figure, context.step)


class RunTables(Callback):
    """Merges a run's parts into its three tables at the end, and tells what they answer."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Merges after a fit."""
        self._merge(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Merges after a validation that stands alone."""
        if trainer.state.fn == "validate":
            self._merge(trainer, pl_module)

    @staticmethod
    def _merge(trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            merge_parts(run_folder(trainer))
        write_answer(RunContext.of(trainer, pl_module))
        if trainer.is_global_zero:
            sys.stdout.write("\n".join(last_lines(trainer)) + "\n")
        trainer.strategy.barrier("tables")


def last_lines(trainer: Trainer) -> list[str]:
    """Returns what the audits of a run's last weights say, in at most twenty lines."""
    folder = run_folder(trainer)
    answer = run_answer(folder)
    if answer is None:
        return [
            f"no audit with a verdict ran: nothing in {folder} judges what this model gives away; "
            "add one, such as -c configs/audits/membership.yaml"
        ]
    logs = next(
        (one.log_dir.rstrip("/") for one in trainer.loggers if isinstance(one, TensorBoardLogger)),
        "",
    )
    curves = {"curves": f"tensorboard --logdir {logs}"} if logs else {}
    paths = {"tables": str(folder), "summary": str(folder / FILE_NAME), **curves}
    return console_lines(answer, paths)


def _tell(shift_test: ShiftTest) -> None:
    if shift_test.message is not None:
        (rank_zero_warn if shift_test.alarming else rank_zero_info)(shift_test.message)


_SHARED_WORK: "weakref.WeakKeyDictionary[Trainer, SharedWork]" = weakref.WeakKeyDictionary()


def last_of_each_audit(callbacks: Sequence[Callback]) -> list[Callback]:
    """Keeps the last audit of each kind: a later fragment replaces an earlier one's audit.

    Two audits of one kind would write the same part of the results table.
    """
    last = {one.audit: one for one in callbacks if isinstance(one, AuditCallback)}
    return [
        one for one in callbacks if not isinstance(one, AuditCallback) or last[one.audit] is one
    ]
