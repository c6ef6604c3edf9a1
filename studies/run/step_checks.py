"""What a training step of a planned run cannot do, told before the first run begins.

A run says all of this itself, but a student says it when its teacher and its start have trained.
The checks are those of the run, on what its fragments and options come to.
"""

import inspect
from collections.abc import Sequence
from typing import TypeVar

from common.errors import UserError
from datamodules.instruction import InstructionDataModule
from kdmodules.losses import KDLoss, PolicyGradient
from kdmodules.losses.policy_gradient import check_temperature
from kdmodules.responses import MixedResponses, ResponseSource, TeacherMixedRollouts
from kdmodules.responses.rollouts import check_round
from kdmodules.responses.source import check_room
from kdmodules.sampling.mixture_sampling import MixtureSettings
from kdmodules.sampling.sampler import SamplingSettings
from kdmodules.teacher_cache.settings import check_fixed_text
from kdmodules.text_loss import PlainText, check_text_options
from studies.plan.cells import Cell
from studies.plan.settings import Settings, default_of, read_settings

__all__ = ["check_steps", "global_batch"]

Named = TypeVar("Named")


def check_steps(cells: Sequence[Cell]) -> None:
    """Checks the steps of all students of a plan.

    Raises:
        UserError: Naming the first cell whose step cannot be done, and why.
    """
    settings = read_settings(cells)
    for cell in cells:
        try:
            _check(settings[cell.id])
        except UserError as error:
            raise UserError(f"{cell.alias} cannot train: {error}") from error


def _check(settings: Settings) -> None:
    _check_text(settings)
    source = settings.named_class("model.responses", ResponseSource)  # type: ignore[type-abstract]
    objective = settings.named_class("model.kd_loss", KDLoss)
    if source is None or objective is None:
        return
    _check_source(settings, source)
    if issubclass(objective, PolicyGradient):
        check_temperature(settings.number("model.reduction.temperature", 1.0))
    missing = [name for name in objective.required_extras if name not in source.extras]
    if missing:
        serving = [
            one.__name__
            for one in (MixedResponses, TeacherMixedRollouts)
            if set(objective.required_extras) <= set(one.extras)
        ]
        raise UserError(
            f"{objective.__name__} needs {', '.join(missing)} of every token, and "
            f"{source.__name__} leaves none: set model.responses to {' or '.join(serving)}"
        )


def _check_text(settings: Settings) -> None:
    named = settings.get("model.plain_text.sources")
    check_text_options(
        None if named is None else PlainText(str(named)),
        settings.number("model.lm_coef", 0.0),
        settings.number("model.text_kd_ratio", 0.0),
    )


def _check_source(settings: Settings, source: type[ResponseSource]) -> None:
    if settings.get("model.teacher_cache") is not None:
        check_fixed_text(source)
    own = "model.responses"
    if issubclass(source, TeacherMixedRollouts):
        rollouts = settings.count(f"{own}.rollouts", default_of(TeacherMixedRollouts, "rollouts"))
        check_round(rollouts, global_batch(settings))
        new = settings.count(f"{own}.mixture.max_new_tokens", MixtureSettings.max_new_tokens)
    elif "sampling" in inspect.signature(source).parameters:
        new = settings.count(f"{own}.sampling.max_new_tokens", SamplingSettings.max_new_tokens)
    else:
        return
    check_room(_data(settings, "max_prompt_tokens"), new, _data(settings, "max_tokens"))


def global_batch(settings: Settings) -> int:
    """Returns the records of an optimiser step over all devices."""
    return _data(settings, "batch_size") * settings.count("data.published_devices", 1)


def _data(settings: Settings, option: str) -> int:
    return settings.count(f"data.{option}", default_of(InstructionDataModule, option))
