"""Whether a model knows anything of the text that it is audited on."""

import math
import sys
from collections.abc import Iterable, Mapping

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.last_validation import is_last_validation
from callbacks.results import Row, write_part
from callbacks.run import Scene, run_folder, run_identity

AUDIT = "known_text"
"""The rows of this audit warn; a model that knows the text has none."""

_LEAST_KNOWN = 0.9
"""Share of ln(vocabulary) from which a loss is that of a model that knows nothing."""


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
        scene = Scene.of(trainer, pl_module)
        loss = scene.module.development_loss()
        uniform = math.log(scene.module.language_model.vocabulary_size)
        if not trainer.is_global_zero:
            return
        rows = [_row(scene, loss, uniform)] if loss >= _LEAST_KNOWN * uniform else []
        write_part(run_folder(trainer), "results", scene.step, AUDIT, rows)
        for row in rows:
            sys.stderr.write(f"warning: {known_text_warning(row)}\n")


def _row(scene: Scene, loss: float, uniform: float) -> Row:
    return {
        **run_identity(scene.trainer).columns(scene.module.seed),
        "step": scene.step,
        "audit": AUDIT,
        "population": "development",
        "name": "development_loss",
        "metric": "nats_per_token",
        "value": loss,
        "params": {"uniform_nats": round(uniform, 6)},
    }


def known_text_warning(row: Mapping[str, object]) -> str:
    """Returns what a row warns of, in one sentence."""
    loss = float(str(row["value"]))
    return (
        f"this model knows nothing of the text: its development loss is {loss:.2f} nats per token, "
        "about that of a guess among all tokens; where it was trained, its tokenizer, template or "
        "weights are wrong, and no figure of it means anything"
    )


def warnings_of(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """Returns the warning of the last weights that were looked at; none where there is none."""
    own = sorted(
        (row for row in rows if row["audit"] == AUDIT), key=lambda row: int(str(row["step"]))
    )
    return [known_text_warning(own[-1])] if own else []
