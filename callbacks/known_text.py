"""Looks, before any audit, whether the model knows anything of the text that it is audited on."""

import sys

from lightning.pytorch import Callback, LightningModule, Trainer

from audits.known_text import AUDIT, known_text_rows, known_text_warning
from audits.results import write_part
from callbacks.last_validation import is_last_validation
from callbacks.run import RunContext, run_folder, run_identity


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
        identity = run_identity(trainer).columns(context.module.seed)
        common = {**identity, "step": context.step, "audit": AUDIT}
        known = known_text_rows(loss, context.module.language_model.vocabulary_size)
        rows = [{**common, **row} for row in known]
        write_part(run_folder(trainer), "results", context.step, AUDIT, rows)
        for row in rows:
            sys.stderr.write(f"warning: {known_text_warning(row)}\n")
