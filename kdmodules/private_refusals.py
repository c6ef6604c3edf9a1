"""What cannot be trained with a guarantee, refused by the name of its option before it starts."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from common.errors import UserError
from datamodules.splits import POOL
from kdmodules.privacy.disjoint_parts import (
    configuration_behind,
    data_behind,
    deals_otherwise,
    starts_of,
)
from kdmodules.strategies import saves_its_own_way

_PUBLIC_FIGURES = "val/"
"""Of the development split, which is outside the pool."""
_TEACHERS_FIGURE = "/teacher_kl"
_WHOLE = (None, 1.0)


def refuse_private_training(trainer: Trainer, split: str, *sources: str | None) -> None:
    """Refuses a private training that would not be what its guarantee says.

    Args:
        trainer: The trainer of the run.
        split: What the module trains on.
        sources: Where its weights come from.

    Raises:
        UserError: Naming the option, and what to do.
    """
    if split not in POOL:
        raise UserError(
            f"model.dp: this run trains on the {split} split, and noise in its training protects "
            "none of the private records: give it to the teacher, as configs/defences/dp_teacher "
            "over configs/base/teacher does"
        )
    if trainer.gradient_clip_val is not None:
        raise UserError(
            f"trainer.gradient_clip_val is {trainer.gradient_clip_val}: model.dp.clip clips the "
            "gradient of each unit, and nothing clips their noisy sum; set it to null"
        )
    if trainer.accumulate_grad_batches != 1:
        raise UserError(
            f"trainer.accumulate_grad_batches is {trainer.accumulate_grad_batches}: with model.dp "
            "a draw is one batch, whose units are taken one by one; set it to 1"
        )
    if saves_its_own_way(trainer.strategy):
        raise UserError(
            f"trainer.strategy is {type(trainer.strategy).__name__}, which shows no unit's whole "
            "gradient: with model.dp take configs/trainers/ddp.yaml or one device"
        )
    if str(trainer.precision).startswith("16"):
        raise UserError(
            f"trainer.precision is {trainer.precision}, which scales gradients before they are "
            "clipped: with model.dp take bf16-mixed or 32-true"
        )
    overfits = getattr(trainer, "overfit_batches", 0)
    if trainer.limit_train_batches not in _WHOLE or overfits:
        raise UserError(
            "trainer.limit_train_batches and overfit_batches repeat or leave out draws: with "
            "model.dp leave them out, and set trainer.max_steps"
        )
    for callback in getattr(trainer, "callbacks", []):
        _refuse_private_choice(callback)
    for source in sources:
        if source is not None:
            _refuse_private_start(source, data_behind(trainer.default_root_dir))


def refuse_choice_by_teachers(trainer: Trainer) -> None:
    """Refuses a choice among students of bounded text by what their teachers' probabilities say.

    Raises:
        UserError: Naming the callback.
    """
    for callback in getattr(trainer, "callbacks", []):
        monitor = getattr(callback, "monitor", None)
        if monitor is not None and str(monitor).endswith(_TEACHERS_FIGURE):
            raise UserError(
                f"{type(callback).__name__} follows {monitor}, which reads the teachers' "
                "probabilities: model.responses bounds what their text tells, so follow "
                f"{_PUBLIC_FIGURES}loss"
            )


def _refuse_private_choice(callback: object) -> None:
    if not isinstance(callback, EarlyStopping | ModelCheckpoint) or callback.monitor is None:
        return
    if not callback.monitor.startswith(_PUBLIC_FIGURES):
        raise UserError(
            f"{type(callback).__name__} follows {callback.monitor}, which may tell of private "
            f"records beyond what the noise hides: with model.dp follow a figure of the "
            f"development records, such as {_PUBLIC_FIGURES}loss"
        )


def _refuse_private_start(source: str, data: Mapping[str, Any]) -> None:
    """Refuses weights of a run of ours that is known to have met private records, or whose public
    records may be private ones under these options of the data."""
    run = configuration_behind(source)
    if run is None:
        return
    model = run.get("model", {})
    options = model.get("init_args", {})
    if options.get("split") != "public":
        trained = str(model.get("class_path")).rpartition(".")[2]
        raise UserError(
            f"model.network.source {source} may have met private records (its run "
            f"trained a {trained}): with model.dp start from public weights, such as those of a "
            "run of configs/base/init"
        )
    if deals_otherwise(data_behind(source), data):
        raise UserError(
            f"model.network.source {source} was trained on public records of another split, which "
            "may be private ones of this run: with model.dp start from a run of the same data and "
            "data.splits"
        )
    for earlier in starts_of(run):
        _refuse_private_start(earlier, data)
