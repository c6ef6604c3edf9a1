"""Mistaken options of a planned run, told before the first run begins.

A run says so itself when it starts, but a late stage starts when all before it have trained. Every
distinct command of a plan is parsed once by the parser of `kd-privacy fit`, names and types alike.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path

from common.errors import UserError
from common.located_yaml import Key, load_located
from studies.plan.cells import Cell, Plan, option_text
from studies.plan.stages import OF_ONE_CELL

__all__ = ["Parse", "check_commands"]

Parse = Callable[[Sequence[str]], object]
"""Parses the arguments of `kd-privacy`; raises UserError where the command would not start."""

_NAMED = re.compile(r"""(?:arguments?:|[Oo]ption|[Kk]ey) ['"]?(?:--)?([\w.]+)""")
_MOVED = re.compile(r"class_path ([\w.]+\.)\* has moved")


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
            study = load_located(Path(plan.source))
            for key, value in _options_of(study.data, cell.stage):
                if key[-1] == option and option_text(value) == cell.options[option]:
                    return study.error(key, message)
    for path in reversed(cell.fragments):
        fragment = load_located(Path(path))
        for key in fragment.lines:
            dotted = ".".join(str(part).removesuffix("+") for part in key if part != "init_args")
            if f".{dotted}".endswith(f".{name}") and name:
                return fragment.error(key, message)
            if moved and str(reduce(getitem, key, fragment.data)).startswith(moved.group(1)):  # type: ignore[call-overload]
                return fragment.error(key, message)
    return UserError(message)
