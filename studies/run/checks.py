"""Mistakes in a plan that are told before its first cell trains.

A run says all of this itself when it starts, but a late stage starts when all before it have
trained. Every distinct command is parsed once by the parser of `kd-privacy fit`, and what a step
cannot do is asked of the run's own checks.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.located_yaml import Key, load_located
from common.options import require_at_least
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
from studies.plan.cells import Cell, Plan, option_text
from studies.plan.settings import Settings, default_of, read_settings
from studies.plan.stages import OF_ONE_CELL
from studies.plan.study_file import load_study

Parse = Callable[[Sequence[str]], object]
"""Parses the arguments of `kd-privacy`; raises UserError where the command would not start."""

_NAMED = re.compile(r"""(?:arguments?:|[Oo]ption|[Kk]ey) ['"]?(?:--)?([\w.]+)""")
_MOVED = re.compile(r"class_path ([\w.]+\.)\* has moved")


def check_plan(plan: Plan, parse: Parse) -> None:
    """Checks the commands and the steps of all cells of a plan.

    Raises:
        UserError: What is wrong, of which cell, and where that comes from.
    """
    check_commands(plan, parse)
    check_steps(plan.cells)


def check_commands(plan: Plan, parse: Parse) -> None:
    """Parses every distinct command of a plan: fragments, option names and a user's values.

    Raises:
        UserError: File and line, or the option, that a mistake comes from; the cell that would have
            failed; what the command would have said.
    """
    checked = set()
    for cell in plan.cells:
        set_by_planner = {*OF_ONE_CELL, *cell.needs}
        command = (
            cell.fragments,
            tuple((name, name in set_by_planner or text) for name, text in cell.options.items()),
        )
        if command in checked:
            continue
        checked.add(command)
        try:
            parse(cell.arguments)
        except UserError as error:
            mistake = f"{cell.alias} cannot start: {error}"
            raise _located(plan, cell, str(error), mistake) from error


def _options_of(entry: object, stage: str, key: Key = ()) -> Iterator[tuple[Key, object]]:
    """Yields the options in a study file, but those of other stages, with their values."""
    if isinstance(entry, list):
        for index, item in enumerate(entry):
            yield from _options_of(item, stage, (*key, index))
    elif isinstance(entry, dict):
        for name, value in entry.items():
            if key[-1:] == ("overrides",):
                yield (*key, name), value
            elif key != ("stages",) or name == stage:
                yield from _options_of(value, stage, (*key, name))


def _located(plan: Plan, cell: Cell, report: str, message: str) -> UserError:
    """Returns the error with the option, or the file and line, that gives the reported name."""
    match = _NAMED.search(report)
    name = match.group(1) if match else ""
    moved = _MOVED.search(report)
    for option in reversed(cell.options):
        if f".{option}".endswith(f".{name}") and name:
            typed = {option, f"stages.{cell.stage}.{option}"} & plan.overrides.keys()
            if typed:
                return UserError(f"--{typed.pop()}: {message}")
            study = load_study(Path(plan.source))
            for key, value in _options_of(study.data, cell.stage):
                if key[-1] == option and option_text(value) == cell.options[option]:
                    return study.error(key, message)
    for path in reversed(cell.fragments):
        fragment = load_located(Path(path))
        for key in fragment.lines:
            dotted = ".".join(str(part).removesuffix("+") for part in key if part != "init_args")
            if f".{dotted}".endswith(f".{name}") and name:
                return fragment.error(key, message)
            if moved and str(_value(fragment.data, key)).startswith(moved.group(1)):
                return fragment.error(key, message)
    return UserError(message)


def _value(entry: Any, key: Key) -> object:
    """Returns what stands under a key of a fragment."""
    for part in key:
        entry = entry[part]
    return entry


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
    devices = settings.count("data.published_devices", 1)
    batch_size = _data(settings, "batch_size")
    require_at_least(1, "data.", batch_size=batch_size, published_devices=devices)
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
