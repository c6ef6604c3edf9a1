"""Rows that a run writes beside its audits: of a model that guesses, of a technique's mechanism, of
what its training guarantees."""

import sys

from lightning.pytorch import Callback, LightningModule, Trainer

from audits.context import Measurements
from audits.guarantee import AUDIT as GUARANTEE
from audits.guarantee import guarantee_rows
from audits.known_text import AUDIT as KNOWN_TEXT
from audits.known_text import known_text_rows, known_text_warning
from audits.mechanism import AUDIT as MECHANISM
from audits.mechanism import NAME
from audits.rows import ResultRow
from callbacks.audit import AuditCallback
from callbacks.guarantee import channel_of, inherit_guarantee, run_guarantee
from callbacks.run import RunContext
from callbacks.schedule import is_last_validation
from kdmodules.student import StudentModule


class KnownText(Callback):
    """Warns, before any audit, of a model that guesses.

    A loss about as high as that of a uniform guess, ln(vocabulary) nats per token, is what a wrong
    tokenizer, template or file of weights gives, and no audit of such a model finds a leak. Looked
    at are the weights of a validation and the last ones of a fit: before training a model may
    guess.
    """

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares the development loss; writes the row that cards and reports warn by."""
        if trainer.sanity_checking or not is_last_validation(trainer):
            return
        context = RunContext.of(trainer, pl_module)
        loss = context.module.development_loss()
        if not trainer.is_global_zero:
            return
        rows = known_text_rows(loss, context.module.language_model.vocabulary_size)
        context.write_results(KNOWN_TEXT, rows)
        for row in rows:
            sys.stderr.write(f"warning: {known_text_warning(row)}\n")


class MechanismRecord(AuditCallback):
    """Adds to the results of a student what its response source did, at the last validation.

    A technique whose response source follows the run (a threshold on the development loss, rounds
    of rollouts) is known by what its source did and not by its name. One row for each figure of
    :meth:`ResponseSource.mechanism`, and with them, where there is a warm-up, one for its share of
    the updates; parameters name the source and the objective. Other models, and sources that do as
    they are configured, get no rows.
    """

    audit = MECHANISM

    def __init__(self) -> None:
        super().__init__(every_n_validations=0)

    def measure(self, context: RunContext) -> Measurements:
        """Returns the rows of a student that has trained; no scores."""
        module = context.module
        if not isinstance(module, StudentModule) or not context.step:
            return Measurements()
        params = {
            "objective": type(module.kd_loss).__name__,
            "source": type(module.responses).__name__,
        }
        figures = module.responses.mechanism()
        warmup = module.optimizer.warmup_steps
        if figures and warmup:
            figures["warmup_share"] = min(warmup / context.step, 1.0)
        return Measurements(
            results=[
                ResultRow(name=NAME, metric=metric, value=value, params=params)
                for metric, value in figures.items()
            ]
        )


class GuaranteeRecord(AuditCallback):
    """Carries a teacher's guarantee to its student's folder, and adds what is guaranteed to the
    results at the last validation.

    A student without a guarantee has a row that says so, with what it reads of its teacher.
    """

    audit = GUARANTEE

    def __init__(self) -> None:
        super().__init__(every_n_validations=0)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes what a student has of its teacher before anything is trained."""
        super().on_fit_start(trainer, pl_module)
        inherit_guarantee(RunContext.of(trainer, pl_module))

    def measure(self, context: RunContext) -> Measurements:
        """Returns the rows of a run; no scores."""
        return Measurements(results=guarantee_rows(run_guarantee(context), channel_of(context)))
